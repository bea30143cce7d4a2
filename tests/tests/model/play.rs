//! One play: a sequence of steps that follows from its seed, each taken on the stage and in the books, which then have to agree.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use fastrand::Rng;
use weir_tests::{
    Agent, Conf, ORIGIN, Proxy, SOON, World, eventually,
    origin::{self, Manner},
    sockopt,
};

use crate::{
    books::{Books, Caps, Counts, Id, Life},
    kernel::Kernel,
    stage::{DEDICATED, Ends, PLAIN, PROXY, QUEUE, SOURCES, Stage},
};

/// Zones that a configuration may have. The kernel's table has as many slots, so those of zones that have gone are given away again.
pub const ZONES: [&str; 5] = ["a.test", "b.test", "c.test", "d.test", "e.test"];
/// Above this many, sockets are only closed.
const MANY: usize = 50;
const BACKLOG: usize = 8;

/// What was done, for whoever has to find out.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<String>>);

impl Journal {
    fn note(&self, step: &str) {
        let _ = writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "  {step}");
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    OpenDedicated,
    Knock,
    Accept,
    CloseListener,
    Back,
    Connect,
    ConnectInVain,
    Attribute,
    Admit,
    Release,
    Duplicate,
    Lend,
    CloseOne,
    KillHolders,
    ResetOwn,
    ClosePeer,
    ResetPeer,
    HalfCloseOwn,
    HalfClosePeer,
    PeerSays,
    Upgrade,
    KillProxy,
    StartProxy,
    Reload,
    KillAgent,
    StartAgent,
}

/// How often a step is wanted beside the others.
const WEIGHTS: [(Step, u32); 27] = [
    (Step::Open, 16),
    (Step::OpenDedicated, 8),
    (Step::Knock, 8),
    (Step::Accept, 6),
    (Step::CloseListener, 1),
    (Step::Back, 5),
    (Step::Connect, 3),
    (Step::ConnectInVain, 1),
    (Step::Attribute, 18),
    (Step::Admit, 22),
    (Step::Release, 7),
    (Step::Duplicate, 4),
    (Step::Lend, 3),
    (Step::CloseOne, 14),
    (Step::KillHolders, 3),
    (Step::ResetOwn, 4),
    (Step::ClosePeer, 8),
    (Step::ResetPeer, 6),
    (Step::HalfCloseOwn, 5),
    (Step::HalfClosePeer, 5),
    (Step::PeerSays, 4),
    (Step::Upgrade, 10),
    (Step::KillProxy, 1),
    (Step::StartProxy, 3),
    (Step::Reload, 4),
    (Step::KillAgent, 1),
    (Step::StartAgent, 4),
];

pub struct Play<'a> {
    world: &'a World,
    rng: Rng,
    journal: Journal,
    books: Books,
    stage: Stage,
    kernel: Kernel,
    /// What the configuration file says; the kernel knows as much of it as the agent has told.
    zones: BTreeMap<String, Caps>,
    agent: Option<Agent>,
    proxy: Option<Proxy>,
}

impl<'a> Play<'a> {
    pub fn begin(world: &'a World, seed: u64, journal: Journal) -> Self {
        let mut rng = Rng::with_seed(seed);
        origin::serve(world, ORIGIN, Manner::Echo);
        let zones = some_zones(&mut rng, &BTreeMap::new());
        let agent = truthful(world.agent(&configuration(world, &zones)));
        let kernel = Kernel::open(world, &ZONES, DEDICATED);
        let (books, stage) = (Books::default(), Stage::new());
        let mut play =
            Self { world, rng, journal, books, stage, kernel, zones, agent: Some(agent), proxy: None };
        play.in_force();
        play
    }

    /// Takes this many steps, and looks at the kernel after each.
    pub fn go_on(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
            self.agree();
        }
    }

    /// Closes everything.
    pub fn end(mut self) {
        self.journal.note("the end");
        self.stage.ends.clear();
        self.stage.close_listener();
        self.proxy = None;
        self.books.clear();
        // An agent looks at everything when it starts.
        self.kill_agent();
        self.start_agent();
        self.await_counts();
    }

    fn step(&mut self) {
        let all: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        // Many steps need something that is not there: then it is another's turn.
        for _ in 0..1000 {
            let mut lot = self.rng.u32(0..all);
            let step = WEIGHTS.iter().find(|(_, weight)| match lot.checked_sub(*weight) {
                Some(rest) => {
                    lot = rest;
                    false
                }
                None => true,
            });
            if step.is_some_and(|(step, _)| self.take(*step)) {
                return;
            }
        }
        panic!("no step can be taken");
    }

    /// True if the step could be taken.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Open | Step::OpenDedicated | Step::Knock => return self.births(step),
            Step::Back | Step::Upgrade if self.stage.ends.len() >= MANY => return false,
            Step::Accept | Step::CloseListener if self.stage.waiting() == 0 => return false,
            Step::Accept => self.stage.accept(),
            Step::CloseListener => self.stage.close_listener(),
            Step::Back => {
                let id = self.stage.unconnected();
                self.speak(Step::Admit, id);
                return true;
            }
            Step::Upgrade => return self.upgrade(),
            Step::Attribute | Step::Admit | Step::Release => {
                let books = &self.books;
                let can = |id: Id, ends: &Ends| ends.speaks().is_some() && !books.is_doomed(id);
                let Some(id) = pick(&mut self.rng, &self.stage, can) else { return false };
                self.speak(step, id);
                return true;
            }
            Step::KillProxy => {
                let Some(mut proxy) = self.proxy.take() else { return false };
                proxy.process.kill();
                self.stage.proxy_gone();
            }
            Step::StartProxy => return self.start_proxy(),
            Step::Reload => self.reload(),
            Step::KillAgent => return self.kill_agent(),
            Step::StartAgent => return self.start_agent(),
            _ => return self.handle(step),
        }
        self.journal.note(&format!("{step:?}"));
        true
    }

    fn births(&mut self, step: Step) -> bool {
        if self.stage.ends.len() >= MANY || step == Step::Knock && self.stage.waiting() >= BACKLOG {
            return false;
        }
        let from = self.rng.usize(0..SOURCES.len());
        let dedicated = step == Step::OpenDedicated;
        let id = if step == Step::Knock { self.stage.knock(from) } else { self.stage.open(from, dedicated) };
        self.books.born(id, SOURCES[from].1, dedicated);
        self.journal.note(&format!("{step:?} {id} from {}", SOURCES[from].0));
        true
    }

    /// Something is done with an end of a connection.
    fn handle(&mut self, step: Step) -> bool {
        let can = |_: Id, ends: &Ends| match step {
            Step::Connect | Step::ConnectInVain => {
                ends.speaks().is_some() && ends.life() == Life::Unconnected
            }
            Step::Duplicate | Step::Lend | Step::CloseOne | Step::ResetOwn => ends.speaks().is_some(),
            Step::KillHolders => ends.is_lent(),
            Step::HalfCloseOwn => ends.may_half_close_own(),
            Step::HalfClosePeer | Step::PeerSays => ends.may_half_close_peer(),
            _ => ends.has_peer(),
        };
        let Some(id) = pick(&mut self.rng, &self.stage, can) else { return false };
        let Some(ends) = self.stage.ends.get_mut(&id) else { return false };
        match step {
            Step::Connect => ends.connect(&self.stage.elsewhere),
            Step::ConnectInVain => ends.connect_in_vain(self.books.is_counted(id)),
            Step::Duplicate => ends.duplicate(),
            Step::Lend => ends.lend(),
            Step::CloseOne => ends.close_one(),
            Step::KillHolders => ends.kill_holders(),
            Step::ResetOwn => ends.reset_own(),
            Step::HalfCloseOwn => ends.half_close_own(),
            Step::HalfClosePeer => ends.half_close_peer(),
            Step::PeerSays => ends.peer_says(),
            Step::ClosePeer => ends.close_peer(),
            _ => ends.reset_peer(),
        }
        self.journal.note(&format!("{step:?} {id}"));
        true
    }

    /// A proxy speaks for a socket: the kernel's answer has to be the books'.
    fn speak(&mut self, step: Step, id: Id) {
        let zone = ZONES[self.rng.usize(0..ZONES.len())];
        let Some((socket, life)) =
            self.stage.ends.get(&id).and_then(|ends| Some((ends.speaks()?, ends.life())))
        else {
            return;
        };
        let (answer, wanted) = match step {
            Step::Attribute => (sockopt::attribute(socket, zone), self.books.attribute(id, zone, life)),
            Step::Admit => (sockopt::admit(socket, zone), self.books.admit(id, zone, life)),
            _ => (sockopt::release(socket, zone), self.books.release(id, zone, life)),
        };
        self.journal.note(&format!("{step:?} {id} for {zone}: {answer:?}"));
        assert_eq!(answer, wanted, "{step:?} of {id} for {zone}, {life:?}");
    }

    fn upgrade(&mut self) -> bool {
        if self.proxy.is_none() {
            return false;
        }
        let (from, zone) = (self.rng.usize(0..SOURCES.len()), ZONES[self.rng.usize(0..ZONES.len())]);
        let opened = self.stage.upgrade(from, zone);
        let id = opened.unwrap_or(Id::MAX);
        self.books.born(id, SOURCES[from].1, false);
        let wanted = self.books.attribute(id, zone, Life::Connected);
        let wanted = wanted.and_then(|()| self.books.admit(id, zone, Life::Connected));
        if wanted.is_err() {
            self.books.ends(id);
        }
        self.journal.note(&format!("Upgrade {opened:?} from {} to {zone}: {wanted:?}", SOURCES[from].0));
        assert_eq!(opened.is_some(), wanted.is_ok(), "an upgrade to {zone}: {wanted:?}");
        true
    }

    fn start_proxy(&mut self) -> bool {
        // Its zones are all that there may ever be: which there are is the kernel's to say.
        if self.proxy.is_none() {
            let caps = Caps { websockets: 1, sockets: None, of_source: None };
            let zones = ZONES.iter().map(|zone| ((*zone).to_owned(), caps)).collect();
            let conf = configuration(self.world, &zones).http(&[any(PROXY)]);
            self.proxy = Some(self.world.proxy(&conf, ([127, 0, 0, 1], PROXY).into()));
            self.journal.note("StartProxy");
            return true;
        }
        false
    }

    /// Zones come, go, are renamed and get other caps.
    fn reload(&mut self) {
        self.zones = some_zones(&mut self.rng, &self.zones);
        self.world.write("weir.toml", &configuration(self.world, &self.zones).to_string());
        self.journal.note(&format!("Reload to {:?}", self.zones));
        if self.agent.is_some() {
            self.in_force();
        }
    }

    fn kill_agent(&mut self) -> bool {
        let Some(mut agent) = self.agent.take() else { return false };
        agent.process.kill();
        self.journal.note("KillAgent");
        true
    }

    fn start_agent(&mut self) -> bool {
        if self.agent.is_none() {
            self.agent = Some(truthful(self.world.agent(&configuration(self.world, &self.zones))));
            self.journal.note("StartAgent");
            self.in_force();
            return true;
        }
        false
    }

    /// Waits until the kernel knows the configuration.
    fn in_force(&mut self) {
        self.books.zones.clone_from(&self.zones);
        self.books.dedicated = self.zones.keys().next().cloned();
        eventually("the configuration in the kernel", SOON, || self.kernel.misses(&self.books));
    }

    fn agree(&mut self) {
        if self.agent.is_some() {
            for id in self.books.doomed() {
                self.books.ends(id);
                self.stage.ends.entry(id).and_modify(Ends::destroyed);
            }
        }
        for (id, ends) in &self.stage.ends {
            if ends.life() == Life::Gone {
                self.books.ends(*id);
            }
        }
        self.stage.ends.retain(|_, ends| !ends.is_over());
        self.await_counts();
    }

    fn await_counts(&self) {
        let wanted = self.books.counts();
        eventually("the kernel's counts to be the model's", SOON, || match self.kernel.counts() {
            Ok(counts) if counts == wanted => Ok(()),
            Ok(counts) => Err(difference(&counts, &wanted)),
            Err(why) => Err(why),
        });
    }
}

/// Its audit, after which it is ready, found nothing that it had to set right.
fn truthful(agent: Agent) -> Agent {
    let drifts = agent.events_of("drift");
    assert!(drifts.is_empty(), "{drifts:?}");
    agent
}

fn difference(kernel: &Counts, model: &Counts) -> String {
    format!("\n  the kernel {kernel:?}\n  the model  {model:?}")
}

fn pick(rng: &mut Rng, stage: &Stage, can: impl Fn(Id, &Ends) -> bool) -> Option<Id> {
    let able: Vec<Id> = stage.ends.iter().filter(|(id, ends)| can(**id, ends)).map(|(id, _)| *id).collect();
    rng.choice(able)
}

/// Some of the zones, most of them those that there are.
fn some_zones(rng: &mut Rng, now: &BTreeMap<String, Caps>) -> BTreeMap<String, Caps> {
    let mut zones = BTreeMap::new();
    for name in ZONES {
        let stays = now.contains_key(name) != (rng.u8(0..4) == 0);
        let caps = now.get(name).copied().filter(|_| rng.bool()).unwrap_or_else(|| some_caps(rng));
        if stays || now.is_empty() && rng.bool() {
            zones.insert(name.to_owned(), caps);
        }
    }
    // A listener is to be somebody's.
    if zones.is_empty() {
        zones.insert(ZONES[rng.usize(0..ZONES.len())].to_owned(), some_caps(rng));
    }
    zones
}

fn some_caps(rng: &mut Rng) -> Caps {
    let mut often = |range: std::ops::Range<u64>| if rng.u8(0..3) == 0 { None } else { Some(rng.u64(range)) };
    Caps { websockets: often(1..7).unwrap_or(20), sockets: often(2..9), of_source: often(2..7) }
}

fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

fn configuration(world: &World, zones: &BTreeMap<String, Caps>) -> Conf {
    // An audit would set right what is to be seen here, so there is one at the start only.
    let conf = world.conf().audit("1h").http(&[any(PLAIN), any(QUEUE), any(PROXY)]);
    let conf = conf.agent(&format!("max_zones = {}", ZONES.len()));
    let conf = match zones.keys().next() {
        Some(zone) => conf.listener(any(DEDICATED), &format!("zone = \"{zone}\"")),
        None => conf,
    };
    zones.iter().fold(conf, |conf, (name, caps)| {
        let plan = name.trim_end_matches(".test");
        let conf = conf.plan(plan, 1, caps.websockets);
        let lines = [("socket_cap", caps.sockets), ("source_cap", caps.of_source)];
        let conf = lines.into_iter().fold(conf, |conf, (key, cap)| match cap {
            Some(cap) => conf.of_plan(&format!("{key} = {cap}")),
            None => conf,
        });
        conf.zone(name, plan)
    })
}
