// The rows of the action threads (`--live rails`), below those of the pool. The canvas shows their bands.
//
//   new ActionRows(lanes, shown)   puts its list after the list of lanes. A row is [data-action="3"]
//                                  with data-state: attached, orphaned or idle
const MOST_ACTIONS = 8;
// How long the row of an action stays after the action has ended.
const KEPT_US = 15e6;

class ActionRows {
  constructor(lanes, shown) {
    this.shown = shown;
    this.rows = new Map();
    this.list = element('ol', 'lanes actions');
    this.list.setAttribute('aria-label', 'Action threads');
    this.more = element('li', 'more');
    this.lanes = lanes;
  }

  arrange() {
    const { record } = this.shown;
    const kept = record.pastActions.filter(action => action.to > this.shown.now() - KEPT_US);
    const all = [...new Set([...kept, ...record.actions.values()].map(action => action.worker))].sort((a, b) => a - b);
    const wanted = all.slice(0, MOST_ACTIONS);
    for (const [worker, row] of this.rows) {
      if (!wanted.includes(worker)) {
        row.remove();
        this.rows.delete(worker);
      }
    }
    for (const worker of wanted) {
      const row = this.rows.get(worker) ?? this.add(worker);
      this.list.append(row);
      const action = record.actions.get(worker);
      const state = !action ? 'idle' : action.orphanedAt === null ? 'attached' : 'orphaned';
      set(row.dataset, 'state', state);
      set(row.dataset, 'request', action ? String(action.story.request) : '');
      const words = 'action ' + worker + ' ' + WORDS[state] + (action ? ': ' + action.story.name : '');
      if (row.lastChild.ariaLabel !== words) {
        row.lastChild.ariaLabel = words;
      }
    }
    const hidden = [...record.actions.values()].filter(action => !wanted.includes(action.worker));
    const orphaned = hidden.filter(action => action.orphanedAt !== null).length;
    write(this.more, hidden.length ? 'and ' + many(hidden.length, 'more action') + ', ' + orphaned + ' ' + WORDS.orphaned : '');
    hidden.length ? this.list.append(this.more) : this.more.remove();
    if (!wanted.length) {
      this.list.remove();
    } else if (!this.list.isConnected) {
      this.lanes.after(this.list);
    }
  }

  add(worker) {
    const row = element('li', 'lane');
    const strip = element('span', 'lane-strip');
    strip.setAttribute('role', 'img');
    row.dataset.action = worker;
    row.append(element('span', 'lane-name', 'action ' + worker), strip);
    this.rows.set(worker, row);
    return row;
  }
}

Object.assign(Drawing.prototype, {
  // Draws the bands of an action thread, which are hollow once no client reads what the action writes.
  action({ worker, top, tall }) {
    const { actions, pastActions } = this.shown.record;
    const all = [...pastActions, ...actions.values()].filter(action => action.worker === worker);
    for (const action of all) {
      const span = { ...action, writes: [], blocked: [], end: null };
      this.band(span, { top: top + tall * 0.08, tall: tall * 0.84 }, action.orphanedAt, [WORDS.orphaned]);
    }
  },
});
