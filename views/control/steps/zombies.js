// Shared by the steps with zombies. Each of them includes it, so it declares functions only.
function needsZombies({ max }) {
  const most = 64;
  return max > most ? 'This server has ' + max + ' threads, and the lab opens at most ' + most + ' zombies. Choose fewer threads.' : '';
}

// Opens zombies, each once the previous one holds its thread. tiny_http may leave a connection unread forever; then
// another one is opened.
async function raise(act, plan) {
  const mostStranded = 4;
  const strandedAfterMs = 10e3;
  const names = new Set();
  const stories = () => [...feed.stories.values()].filter(story => names.has(story.tab));
  const holding = () => stories().filter(isStreaming).length;
  act.says('Opening zombies, one after another.');
  for (let tries = 0; holding() < plan.threads && tries < plan.threads + mostStranded; tries += 1) {
    const held = holding();
    const { zombies } = await act.order('/lab/zombies');
    names.add('zombie-' + zombies[0].zombie);
    await act.until(() => holding() > held, strandedAfterMs);
  }
  return stories;
}
