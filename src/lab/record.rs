//! A server's timeline, folded into one story per request.
//!
//! Everything that an act draws or claims about a server's internals is read from a [`Record`]. It uses only the
//! types of the server's timeline. Nothing here sends requests or blocks: [`super::follower`] does.

use std::collections::BTreeMap;

use ninetabs_server::timeline::{Excerpt, Held, Moment, Stretch, Subject, What};

use super::actions::Actions;
use super::state::RecordState;
use super::story::Story;

/// Everything that a server has recorded.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The server's clock at the last fetch.
    pub now_us: u64,
    /// The stories by request number, which is the order of arrival.
    pub stories: BTreeMap<u64, Story>,
    /// The number of moments that the server had dropped before they were fetched.
    pub forgotten: u64,
    /// All moments, for a trace. A reader that follows a server for days clears them.
    pub moments: Vec<Moment>,
    /// The orders to the server, in a few words each, with their times. The oldest are dropped first.
    pub orders: Vec<(u64, String)>,
    /// Spans of time whose stories may be missing: they were dropped ([`Record::forget_before`]) or lost.
    pub unknown_us: Vec<(u64, u64)>,
    /// The actions that ran on their own threads.
    pub actions: Actions,
    state: RecordState,
}

impl Record {
    /// Folds a stretch of a server's record that ends at this time.
    pub fn of_stretch(stretch: &Stretch, now_us: u64) -> Record {
        let Stretch { before, moments } = stretch;
        let mut record = Record::default();
        if before.seq > 0 {
            let since_us = stretch.since_us().unwrap_or(now_us);
            record.take(Excerpt {
                now_us: since_us,
                forgotten: before.seq,
                moments: Vec::new(),
                snapshot: Some(before.clone()),
            });
        }
        record.take(Excerpt { now_us, forgotten: 0, moments: moments.clone(), snapshot: None });
        record
    }

    /// Takes in the moments since the last call.
    pub fn take(&mut self, excerpt: Excerpt) {
        let Excerpt { now_us, forgotten, moments, snapshot } = excerpt;
        let until_us = moments.first().map_or(now_us, |moment| moment.at_us);
        if forgotten > 0 {
            self.unknown_us.push((self.now_us, until_us));
        }
        self.now_us = now_us;
        self.forgotten = self.forgotten.saturating_add(forgotten);
        let state = snapshot.map(RecordState::from);
        if let Some(state) = &state {
            self.resume(state, until_us);
        }
        for moment in moments {
            self.take_moment(&moment);
            self.moments.push(moment);
        }
        if let Some(state) = state {
            self.settle(state, until_us);
        }
    }

    fn take_moment(&mut self, moment: &Moment) {
        let before = self.state.take(moment);
        self.actions.take(moment);
        if let (Some(thread), Some(held)) = (moment.thread, before) {
            self.end_unless_held(thread, &held, moment.at_us);
        }
        match (moment.thread, moment.subject) {
            (Some(thread), Some(subject)) => self.on_thread(thread, subject, moment),
            (None, Some(subject)) => self.at_the_door(subject, moment),
            (None, None) => self.of_the_server(moment),
            (Some(_), None) => {}
        }
    }

    fn of_the_server(&mut self, moment: &Moment) {
        if let What::Ordered { text } = &moment.what {
            self.orders.push((moment.at_us, text.clone()));
        }
    }

    fn on_thread(&mut self, thread: usize, subject: Subject, moment: &Moment) {
        let held = self.state.held_by(thread).filter(|held| held.subject.request == subject.request);
        let Some(held) = held else { return };
        let story = self.stories.entry(subject.request).or_insert_with(|| Story::new(subject));
        let at_us = moment.at_us;
        match moment.what {
            What::Wrote { .. } => story.writes_us.push(at_us),
            What::Blocked { us } => story.blocked_us.push((at_us.saturating_sub(us), at_us)),
            What::Started
            | What::Accepted { .. }
            | What::Streaming
            | What::Disconnected { .. }
            | What::Reaped { .. } => story.on_thread(thread, held),
            _ => {}
        }
    }

    fn at_the_door(&mut self, subject: Subject, moment: &Moment) {
        match moment.what {
            // A request is queued a second time if Puma's front had set it aside because it was incomplete. In the
            // meantime, the request was in the reactor, and waited for its client, not for a thread.
            What::Queued | What::Accepted { .. } => {
                if let Some(held) = self.state.waiting(subject.request) {
                    self.stories.insert(subject.request, Story::in_todo(held));
                }
            }
            What::Withdrawn | What::Rejected { .. } => {
                // A request that the reactor refuses has been on a thread, or has never been in the queue.
                let refused = Story { queued_us: moment.at_us, ..Story::new(subject) };
                let story = self.stories.entry(subject.request).or_insert(refused);
                story.finished_us.get_or_insert(moment.at_us);
            }
            What::ClientClosed => {
                let story = self.stories.get_mut(&subject.request);
                if let Some(story) = story.filter(|story| story.finished_us.is_none()) {
                    story.closed_us.get_or_insert(moment.at_us);
                }
            }
            _ => {}
        }
    }

    /// Ends the story of a request that this thread had and no longer has. The story of a request that was set aside
    /// does not end: the request is now in the queue or on another thread.
    fn end_unless_held(&mut self, thread: usize, held: &Held, at_us: u64) {
        let request = held.subject.request;
        if self.state.is_held_by(thread, request) {
            return;
        }
        let story = self.stories.get_mut(&request);
        if let Some(story) = story.filter(|story| story.is_held_by(thread)) {
            story.finished_us = Some(at_us);
        }
    }

    /// Takes over the requests that began before the end of a gap, which was at `until_us`. `state` is the server's
    /// state after the moments that follow the gap.
    fn resume(&mut self, state: &RecordState, until_us: u64) {
        for (thread, held) in state.held().filter(|(_, held)| held.started_us < Some(until_us)) {
            let before = self.state.hold(thread, held.clone());
            if let Some(before) = before {
                self.end_unless_held(thread, &before, until_us);
            }
            self.story_of(held).on_thread(thread, held);
        }
    }

    /// Takes over the state after the moments that follow a gap, which ended at `until_us`. A story that is missing
    /// from the state, and whose end is not among the moments, ended in the gap.
    fn settle(&mut self, state: RecordState, until_us: u64) {
        for (thread, held) in state.held() {
            self.story_of(held).on_thread(thread, held);
        }
        for held in state.todo() {
            self.stories.insert(held.subject.request, Story::in_todo(held));
        }
        let is_there = |story: &Story| match story.started {
            Some((_, thread)) => state.is_held_by(thread, story.request),
            None => state.waiting(story.request).is_some(),
        };
        for story in self.stories.values_mut() {
            if story.finished_us.is_none() && !is_there(story) {
                story.finished_us = Some(until_us);
            }
        }
        self.actions.settle(state.actions(), until_us);
        self.state = state;
    }

    fn story_of(&mut self, held: &Held) -> &mut Story {
        self.stories.entry(held.subject.request).or_insert_with(|| Story::new(held.subject))
    }

    /// Drops the stories that ended before this time on the server's clock. If more than `most` ended stories would
    /// remain, the oldest of them are dropped as well. A busy server can therefore be followed for days.
    pub fn forget_before(&mut self, at_us: u64, most: usize) {
        let mut ended: Vec<u64> = self.stories.values().filter_map(|story| story.finished_us).collect();
        let too_many = ended.len().saturating_sub(most);
        let newest = (too_many > 0).then(|| ended.select_nth_unstable(too_many - 1).1.saturating_add(1));
        let at_us = at_us.max(newest.unwrap_or_default());
        self.unknown_us.retain(|(_, until_us)| *until_us > at_us);
        self.unknown_us.push((0, at_us));
        let outdated = self.orders.partition_point(|(ordered_us, _)| *ordered_us < at_us);
        self.orders.drain(..outdated.max(self.orders.len().saturating_sub(most)));
        self.actions.forget_before(at_us);
        self.stories.retain(|_, story| story.finished_us.is_none_or(|finished_us| finished_us >= at_us));
        for story in self.stories.values_mut() {
            story.writes_us.retain(|wrote_us| *wrote_us >= at_us);
            story.blocked_us.retain(|(_, until_us)| *until_us >= at_us);
        }
    }

    /// The number of the last moment that was taken in.
    pub fn last_seq(&self) -> u64 {
        self.state.seq()
    }

    /// The numbers of the live threads, in order.
    pub fn threads(&self) -> impl ExactSizeIterator<Item = usize> {
        self.state.threads()
    }

    /// How many writes the request on this thread has made since its start.
    pub fn writes_on(&self, thread: usize) -> u64 {
        self.state.held_by(thread).map_or(0, |held| held.writes)
    }

    /// The newest story whose client had this port. The lab identifies its own clients by their ports.
    pub fn of_port(&self, port: u16) -> Option<&Story> {
        self.stories.values().rev().find(|story| story.port == port)
    }

    /// Notes that the client with this port closed at this time on the server's clock.
    pub fn client_closed(&mut self, port: u16, at_us: u64) {
        let story = self.stories.values_mut().rev().find(|story| story.port == port);
        if let Some(story) = story.filter(|story| story.finished_us.is_none()) {
            story.closed_us.get_or_insert(at_us);
        }
    }

    /// Requests that hold a thread.
    pub fn held(&self) -> usize {
        self.stories.values().filter(|story| story.is_running()).count()
    }

    /// Streams that hold a thread.
    pub fn open_streams(&self) -> usize {
        self.stories.values().filter(|story| story.is_stream && story.is_running()).count()
    }

    /// Requests in the queue, the oldest first.
    pub fn todo(&self) -> impl Iterator<Item = &Story> {
        let mut queued: Vec<_> = self.stories.values().filter(|story| story.is_queued()).collect();
        queued.sort_by_key(|story| story.queued_us);
        queued.into_iter()
    }
}

#[cfg(test)]
pub(crate) mod tests;
