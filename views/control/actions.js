// Folds the events of actions that run on threads of their own (`--live rails`) into the record. The tour, which is
// about the pool, does not load it.
//
//   record.actions        Map of a thread's number to the action that it runs:
//                         { worker, story, from, to, committedAt, orphanedAt }
//   record.pastActions    actions that have ended
Object.assign(Record.prototype, {
  // A moment of an action on a thread of its own. Its request may have ended.
  takeOfAction(moment) {
    const { kind, worker, at_us: at } = moment;
    if (kind === 'action_began') {
      this.endAction(worker, at);
      this.beginAction(worker, moment, at);
    }
    const action = this.actions.get(worker);
    // The commit is recorded by the pool thread, possibly after the action has ended.
    if (!action || action.story.request !== moment.request) {
      return;
    }
    this.describe(moment, action.story);
    if (kind === 'action_committed') {
      action.committedAt = at;
    } else if (kind === 'action_orphaned') {
      action.orphanedAt = at;
    } else if (kind === 'action_ended') {
      this.endAction(worker, at);
    }
  },

  storyOfAction(request) {
    return [...this.actions.values()].find(action => action.story.request === request)?.story;
  },

  beginAction(worker, subject, at) {
    const story = new Story(subject);
    story.asks('GET', subject.target);
    const action = { worker, story, from: at, to: null, committedAt: null, orphanedAt: null };
    this.actions.set(worker, action);
    return action;
  },

  endAction(worker, at) {
    const action = this.actions.get(worker);
    if (action) {
      action.to = at;
      this.actions.delete(worker);
      keep(this.pastActions, action, MOST_DONE);
    }
  },

  // Sets exactly the server's state after the last moment.
  settleActions(actions, since) {
    for (const worker of [...this.actions.keys(), ...Object.keys(actions).map(Number)]) {
      const now = actions[worker];
      if (now?.request !== this.actions.get(worker)?.story.request) {
        this.endAction(worker, since);
      }
      if (now) {
        Object.assign(this.actions.get(worker) ?? this.beginAction(worker, now, now.began_us), {
          from: now.began_us, committedAt: now.committed_us, orphanedAt: now.orphaned_us,
        });
      }
    }
  },
});
