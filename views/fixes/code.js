// Code that is too wide fades at its right edge while there is more to scroll to, and commands get a button
// that copies them.
for (const code of document.querySelectorAll('pre')) {
  const look = () => code.toggleAttribute('data-more', code.scrollWidth - code.clientWidth - code.scrollLeft > 1);
  code.addEventListener('scroll', look, { passive: true });
  new ResizeObserver(look).observe(code);
}
for (const command of document.querySelectorAll('[data-command]')) {
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Copy' });
  const said = document.createElement('span');
  said.setAttribute('role', 'status');
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      said.textContent = 'Copied.';
    } catch {
      // A page that was not opened from this machine may not write to the clipboard.
      getSelection().selectAllChildren(command);
      said.textContent = 'Selected; copy it with the keyboard.';
    }
  });
  command.after(button, said);
}
