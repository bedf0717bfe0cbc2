//! The actions that run on their own threads (`serve --live rails`), folded from a server's moments.

use std::collections::VecDeque;

use super::story::name_of;
use ninetabs_server::timeline::{LiveAction, Moment, What};

/// Maximum number of ended actions that are kept.
const MOST_ENDED: usize = 512;

/// What is known about one action. Times are in microseconds on the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionStory {
    /// The number of its thread.
    pub worker: usize,
    pub request: u64,
    /// The name of its request, as in the lane of the pool thread.
    pub name: String,
    pub began_us: u64,
    /// When its answer ended while the action continued.
    pub orphaned_us: Option<u64>,
    pub ended_us: Option<u64>,
}

/// All actions, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Actions(VecDeque<ActionStory>);

impl Actions {
    /// Takes in the next moment.
    pub fn take(&mut self, moment: &Moment) {
        let (Some(subject), Some(worker)) = (moment.subject, moment.what.worker()) else { return };
        if let What::ActionBegan { target, .. } = &moment.what {
            self.end_all_of(worker, moment.at_us);
            self.0.push_back(ActionStory {
                worker,
                request: subject.request,
                name: name_of(target),
                began_us: moment.at_us,
                orphaned_us: None,
                ended_us: None,
            });
        }
        match moment.what {
            What::ActionOrphaned { .. } => {
                for story in self.running().filter(|story| story.worker == worker) {
                    story.orphaned_us = Some(moment.at_us);
                }
            }
            What::ActionEnded { .. } => self.end_all_of(worker, moment.at_us),
            _ => {}
        }
        let ended = self.0.iter().filter(|story| story.ended_us.is_some()).count();
        if ended > MOST_ENDED
            && let Some(oldest) = self.0.iter().position(|story| story.ended_us.is_some())
        {
            self.0.remove(oldest);
        }
    }

    /// Takes over the running actions after a gap in the record that ended at this time.
    pub fn settle<'a>(&mut self, running: impl Iterator<Item = (usize, &'a LiveAction)>, at_us: u64) {
        let running: Vec<_> = running.collect();
        for story in self.running() {
            let is_known = |(worker, action): &(usize, &LiveAction)| {
                (*worker, action.subject.request) == (story.worker, story.request)
            };
            match running.iter().find(|it| is_known(it)) {
                Some((_, action)) => story.orphaned_us = action.orphaned_us,
                None => story.ended_us = Some(at_us),
            }
        }
        for (worker, action) in running {
            let request = action.subject.request;
            let is_it = |story: &&mut ActionStory| (story.worker, story.request) == (worker, request);
            if self.running().any(|story| is_it(&story)) {
                continue;
            }
            self.0.push_back(ActionStory {
                worker,
                request,
                name: name_of(&action.target),
                began_us: action.began_us,
                orphaned_us: action.orphaned_us,
                ended_us: None,
            });
        }
    }

    /// Drops the actions that ended before this time.
    pub fn forget_before(&mut self, at_us: u64) {
        self.0.retain(|story| story.ended_us.is_none_or(|ended_us| ended_us >= at_us));
    }

    /// All actions that are kept, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &ActionStory> {
        self.0.iter()
    }

    /// The action of this request, if it is kept.
    pub fn of_request(&self, request: u64) -> Option<&ActionStory> {
        self.0.iter().rfind(|story| story.request == request)
    }

    /// How many actions run, and how many of them are orphaned.
    pub fn count(&self) -> (usize, usize) {
        let running = || self.0.iter().filter(|story| story.ended_us.is_none());
        (running().count(), running().filter(|story| story.orphaned_us.is_some()).count())
    }

    fn running(&mut self) -> impl Iterator<Item = &mut ActionStory> {
        self.0.iter_mut().filter(|story| story.ended_us.is_none())
    }

    fn end_all_of(&mut self, worker: usize, at_us: u64) {
        for story in self.running().filter(|story| story.worker == worker) {
            story.ended_us = Some(at_us);
        }
    }
}

/// The name of an action's thread on screen.
pub fn action_name(worker: usize) -> String {
    format!("action {worker}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ninetabs_server::timeline::{Subject, Timeline};

    #[test]
    fn an_action_is_orphaned_and_ends_and_a_gap_is_bridged_by_the_state() {
        let timeline = Timeline::simulated();
        let say = |request, what| {
            timeline.let_pass(Duration::from_micros(10));
            timeline.record(None, Some(Subject { connection: request, port: 1, request }), what);
        };
        let began = |worker| What::ActionBegan { worker, target: "/models/live_stream?tab=ab".into() };
        say(1, began(1));
        say(2, began(2));
        say(1, What::ActionOrphaned { worker: 1 });
        say(2, What::ActionEnded { worker: 2 });
        say(3, began(2));
        let mut actions = Actions::default();
        timeline.after(0).moments.iter().for_each(|moment| actions.take(moment));
        assert_eq!(actions.count(), (2, 1));
        let seen: Vec<_> = actions
            .all()
            .map(|it| (it.worker, it.request, it.began_us, it.orphaned_us, it.ended_us))
            .collect();
        assert_eq!(seen, [(1, 1, 10, Some(30), None), (2, 2, 20, None, Some(40)), (2, 3, 50, None, None)]);
        assert!(actions.all().all(|it| it.name == "ab"));

        // The next moments are missing, but the state after them is known.
        say(1, What::ActionEnded { worker: 1 });
        say(4, began(1));
        let state = timeline.snapshot().actions;
        actions.settle(state.iter().map(|(worker, action)| (*worker, action)), 70);
        assert_eq!(actions.count(), (2, 0));
        let last = actions.all().last().unwrap();
        assert_eq!((last.request, last.began_us), (4, 70));
        actions.forget_before(1_000);
        assert_eq!(actions.all().map(|it| it.request).collect::<Vec<_>>(), [3, 4]);
    }
}
