//! The clients of all zones. One task a zone keeps as many as its pattern wants, and the zone's own count of what happened.
//!
//! The count is exact: an upgrade is counted when its answer is known, and a WebSocket as closed before its client begins to
//! close it. So a client's number of open WebSockets is never above the kernel's, and equal to it when nothing moves.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    client::{self, News, Way},
    scenario::{GUEST, ROLES, Role},
};

/// Between two looks at what is wanted.
const TICK: Duration = Duration::from_millis(100);
/// Clients of a zone that come, and that go, in a tick.
const STEP: usize = 12;

/// What the crowd does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// As the patterns want.
    #[default]
    Play,
    /// Nobody comes or goes.
    Hold,
    /// All go.
    Leave,
}

/// A zone's clients, counted by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Upgrades that were answered 101.
    pub admitted: u64,
    /// Upgrades that were answered 503.
    pub refused: u64,
    /// Open WebSockets.
    pub open: u64,
    /// The most that were open at a time.
    pub most_open: u64,
    /// What went wrong: how often, and an example.
    pub failed: u64,
    pub failure: Option<String>,
    /// Upgrades without an answer yet, and WebSockets in their closing handshake.
    moving: u64,
    /// The phase that this is of.
    phase: Phase,
}

/// All zones' clients.
pub struct Crowd {
    phase: watch::Sender<Phase>,
    zones: Vec<(&'static str, watch::Receiver<Tally>)>,
}

impl Crowd {
    /// Lets the clients in. They leave when the crowd is dropped. Needs a runtime.
    pub fn gather(way: Way) -> Self {
        let way = Arc::new(way);
        let phase = watch::Sender::new(Phase::Play);
        let zones = ROLES.iter().filter(|role| role.zone != GUEST).map(|role| {
            let (tally, receiver) = watch::channel(Tally::default());
            let (news, inbox) = mpsc::unbounded_channel();
            let party = Party {
                role: *role,
                way: way.clone(),
                tally,
                open: VecDeque::new(),
                coming: HashMap::new(),
                next_id: 0,
                news,
            };
            tokio::spawn(party.run(inbox, phase.subscribe()));
            (role.zone, receiver)
        });
        let zones = zones.collect();
        Self { phase, zones }
    }

    /// Waits until nothing moves any more, in this phase.
    pub async fn settle(&mut self, phase: Phase) {
        self.phase.send_replace(phase);
        for (_, tally) in &mut self.zones {
            let still = |tally: &Tally| {
                tally.phase == phase && tally.moving == 0 && (phase != Phase::Leave || tally.open == 0)
            };
            // It does not end before the crowd does.
            let _ = tally.wait_for(still).await;
        }
    }

    /// What the clients of each zone have counted.
    pub fn tallies(&self) -> HashMap<&'static str, Tally> {
        self.zones.iter().map(|(zone, tally)| (*zone, tally.borrow().clone())).collect()
    }
}

/// The clients of one zone.
struct Party {
    role: Role,
    way: Arc<Way>,
    tally: watch::Sender<Tally>,
    /// By age.
    open: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Their upgrade is not answered yet.
    coming: HashMap<u64, oneshot::Sender<()>>,
    next_id: u64,
    news: mpsc::UnboundedSender<(u64, News)>,
}

impl Party {
    /// Runs until the crowd is dropped.
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<(u64, News)>,
        mut phase: watch::Receiver<Phase>,
    ) {
        let begun = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = phase.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let phase = *phase.borrow_and_update();
                    self.tally.send_modify(|tally| tally.phase = phase);
                }
                Some((id, news)) = inbox.recv() => self.hear(id, news),
                _ = ticks.tick() => self.steer(begun.elapsed()),
            }
        }
    }

    /// Lets clients in or out, towards what is wanted.
    fn steer(&mut self, at: Duration) {
        let phase = self.tally.borrow().phase;
        let wanted = match phase {
            Phase::Play => self.role.pattern.wanted(at),
            Phase::Hold => return,
            Phase::Leave => return self.send_home(usize::MAX),
        };
        let here = self.open.len() + self.coming.len();
        (here..wanted).take(STEP).for_each(|_| self.invite());
        self.send_home(here.saturating_sub(wanted).min(STEP));
    }

    fn invite(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        let (leave, left) = oneshot::channel();
        self.coming.insert(id, leave);
        self.tally.send_modify(|tally| tally.moving += 1);
        let Role { zone, tls, .. } = self.role;
        tokio::spawn(client::visit(self.way.clone(), zone, tls, id, left, self.news.clone()));
    }

    /// The oldest leave.
    fn send_home(&mut self, number: usize) {
        for (_, leave) in self.open.drain(..number.min(self.open.len())) {
            self.tally.send_modify(|tally| {
                tally.open -= 1;
                tally.moving += 1;
            });
            // One that has just ended by itself hears nothing any more, and says `Closed` all the same.
            let _ = leave.send(());
        }
    }

    fn hear(&mut self, id: u64, news: News) {
        let coming = match news {
            News::Closed => None,
            _ => self.coming.remove(&id),
        };
        let answered = u64::from(coming.is_some());
        let opened = matches!(news, News::Opened);
        let was_open = matches!(news, News::Closed) && self.forget(id);
        self.tally.send_modify(|tally| {
            tally.moving -= answered;
            match news {
                News::Opened => {
                    tally.admitted += 1;
                    tally.open += 1;
                    tally.most_open = tally.most_open.max(tally.open);
                }
                News::Refused => tally.refused += 1,
                News::Failed(what) => {
                    tally.failed += 1;
                    tally.failure = Some(what);
                }
                News::Closed if was_open => tally.open -= 1,
                News::Closed => tally.moving -= 1,
            }
        });
        if let (true, Some(leave)) = (opened, coming) {
            self.open.push_back((id, leave));
        }
    }

    /// True if the client was open, and nobody had asked it to leave.
    fn forget(&mut self, id: u64) -> bool {
        let place = self.open.iter().position(|(other, _)| *other == id);
        place.and_then(|place| self.open.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A party of which `coming` clients wait for an answer.
    fn party(coming: u64) -> (Party, Vec<oneshot::Receiver<()>>) {
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let nowhere = ([127, 0, 0, 1], 1).into();
        let (leave, left) = (0..coming).map(|_| oneshot::channel()).unzip::<_, _, Vec<_>, Vec<_>>();
        let party = Party {
            role: ROLES[0],
            way: Arc::new(Way { http: nowhere, https: nowhere, tls: Arc::new(tls) }),
            tally: watch::Sender::new(Tally { moving: coming, ..Tally::default() }),
            open: VecDeque::new(),
            coming: (0..coming).zip(leave).collect(),
            next_id: coming,
            news: mpsc::unbounded_channel().0,
        };
        (party, left)
    }

    #[test]
    fn every_answer_is_counted_once_and_nothing_moves_when_all_have_come() {
        let (mut party, _left) = party(4);
        party.hear(0, News::Opened);
        party.hear(1, News::Refused);
        party.hear(2, News::Failed("502".to_owned()));
        party.hear(3, News::Opened);
        let tally = party.tally.borrow().clone();
        assert_eq!((tally.admitted, tally.refused, tally.failed), (2, 1, 1));
        assert_eq!((tally.open, tally.most_open, tally.moving), (2, 2, 0));
    }

    #[test]
    fn a_client_that_is_sent_home_is_closed_before_it_says_so() {
        let (mut party, mut left) = party(2);
        party.hear(0, News::Opened);
        party.hear(1, News::Opened);
        party.send_home(1);
        assert_eq!(left[0].try_recv(), Ok(()), "the oldest leaves");
        assert_eq!((party.tally.borrow().open, party.tally.borrow().moving), (1, 1));
        party.hear(0, News::Closed);
        assert_eq!((party.tally.borrow().open, party.tally.borrow().moving), (1, 0));
    }

    #[test]
    fn a_tunnel_that_breaks_is_a_failure_and_no_longer_open() {
        let (mut party, _left) = party(1);
        party.hear(0, News::Opened);
        party.hear(0, News::Failed("a tunnel broke".to_owned()));
        party.hear(0, News::Closed);
        let tally = party.tally.borrow().clone();
        assert_eq!((tally.open, tally.moving, tally.failed), (0, 0, 1));
        assert_eq!(tally.failure.as_deref(), Some("a tunnel broke"));
    }
}
