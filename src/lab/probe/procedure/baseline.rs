//! Step 1: measures how each page answers, and how fast, before the first stream.

use std::time::Duration;

use super::Run;
use super::asks::ProbedPage;
use super::connections::Flow;
use super::observation::End;
use crate::lab::probe::measured::{Baseline, CloseBy, PageOutcome, Stopped};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests;

/// Maximum number of requests until a page has to be stable.
const MAX_ASKS: usize = 6;

/// Number of consecutive answers that have to agree.
const AGREE: usize = 3;

/// How long an answer may take. Some servers compile a page before the first answer.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Requests every page until its answers are stable.
    pub(super) fn baseline(&mut self) -> Flow<()> {
        for page in 0..self.plan.pages.len() {
            let url = self.plan.pages[page].clone();
            let baseline = Baseline { path: requests::path_of(&url), status: 200, time: Duration::ZERO };
            self.pages.push(ProbedPage { url, baseline, server: None });
            self.stable(page)?;
            let baseline = &self.pages[page].baseline;
            self.measured.baseline.push(baseline.clone());
            (self.tell)(ProbeProgress::Baseline(baseline));
        }
        Ok(())
    }

    fn stable(&mut self, page: usize) -> Flow<()> {
        let mut answers: Vec<BaselineAnswer> = Vec::new();
        for _ in 0..MAX_ASKS {
            let (id, ask) = self.ask_once(page, FIRST_WITHIN)?;
            let Some(ask) = ask else {
                self.net.close(id, CloseBy::Fin);
                let why = format!("no answer from {} within 30 s", self.pages[page].baseline.path);
                return Err(Stopped::Unreachable { why });
            };
            let connection = self.net.get(id);
            if let Some((_, End::NotConnected(why))) = connection.and_then(|it| it.server_end()) {
                return Err(Stopped::Unreachable { why: why.clone() });
            }
            let (status, time) = (connection.and_then(|it| it.status()), ask.time);
            if let Some((_, head)) = connection.and_then(|it| it.head.as_ref()) {
                self.pages[page].server = super::server_of(head);
            }
            let is_complete = matches!(ask.outcome, PageOutcome::Answered | PageOutcome::Status(_));
            answers.push(BaselineAnswer { status: status.filter(|_| is_complete), time });
            if let Some((status, time)) = agreed(&answers) {
                let baseline = &mut self.pages[page].baseline;
                (baseline.status, baseline.time) = (status, time);
                return if status >= 500 { Err(self.unstable(page, &answers)) } else { Ok(()) };
            }
        }
        Err(self.unstable(page, &answers))
    }

    fn unstable(&self, page: usize, answers: &[BaselineAnswer]) -> Stopped {
        let path = self.pages[page].baseline.path.clone();
        let answers: Vec<String> = answers.iter().map(BaselineAnswer::spoken).collect();
        Stopped::UnstablePage { path, answers: answers.join(", ") }
    }
}

/// One answer for a page.
#[derive(Debug, Clone, Copy)]
struct BaselineAnswer {
    /// `None` if the answer is incomplete.
    status: Option<u16>,
    time: Duration,
}

impl BaselineAnswer {
    fn spoken(&self) -> String {
        let status = self.status.map_or_else(|| "no complete answer".to_owned(), |status| status.to_string());
        format!("{status} in {} ms", self.time.as_millis())
    }
}

/// Status and median time of the newest three answers, if they agree: the same status, and times within a factor of
/// five or within 200 ms of each other.
fn agreed(answers: &[BaselineAnswer]) -> Option<(u16, Duration)> {
    let newest = answers.last_chunk::<AGREE>()?;
    let status = newest[0].status?;
    let mut times = newest.map(|answer| answer.time);
    times.sort_unstable();
    let (least, most) = (times[0], times[AGREE - 1]);
    let is_near = most <= least * 5 || most - least <= Duration::from_millis(200);
    let agree = is_near && newest.iter().all(|answer| answer.status == Some(status));
    agree.then_some((status, times[AGREE / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(answers: &[(u16, u64)]) -> Option<(u16, u64)> {
        let answers: Vec<BaselineAnswer> = answers
            .iter()
            .map(|(status, ms)| BaselineAnswer {
                status: (*status != 0).then_some(*status),
                time: Duration::from_millis(*ms),
            })
            .collect();
        agreed(&answers).map(|(status, time)| (status, u64::try_from(time.as_millis()).unwrap()))
    }

    #[test]
    fn three_answers_in_a_row_have_to_agree() {
        assert_eq!(agree(&[(200, 5), (200, 4)]), None);
        assert_eq!(agree(&[(200, 5), (200, 4), (200, 9)]), Some((200, 5)));
        assert_eq!(agree(&[(200, 900), (200, 4), (200, 9)]), None);
        assert_eq!(agree(&[(200, 900), (200, 4), (200, 9), (200, 3)]), Some((200, 4)));
        assert_eq!(agree(&[(404, 1), (404, 150), (404, 199)]), Some((404, 150)));
        assert_eq!(agree(&[(200, 400), (200, 1900), (200, 1000)]), Some((200, 1000)));
        assert_eq!(agree(&[(200, 1), (503, 1), (200, 1)]), None);
        assert_eq!(agree(&[(200, 1), (0, 1), (200, 1)]), None);
    }
}
