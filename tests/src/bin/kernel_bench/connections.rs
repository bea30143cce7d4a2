//! CPU a connection, with accounting and without, and an admission beside few and beside very many live WebSockets.
//!
//! Three processes do the same in turns: one in the cgroup that weir's programs are attached to, one in a cgroup with programs that do
//! nothing at the same hooks, one in a cgroup without any. What else is attached to the host's cgroups (other instances of weir, systemd's
//! programs) runs for all three, and more often where sockets are followed: a round beside such programs is taken again, and if they
//! do not go, the report says in how many rounds they were there.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use weir_tests::{Process, World, programs};

use crate::{
    Sizes,
    bed::A_PROCESS,
    figures::{Report, Rounds, quiet_turns, turns},
};

const PART: &str = "a connection and an admission (CPU time of one process with both ends)";
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
const COUNTED: u16 = 8080;
const PASSED_BY: u16 = 8081;
const IDLE: u16 = 8082;
const FIRST_OF_HOLDERS: u16 = 10_000;

/// A cgroup that goes when this is dropped; nobody is in it by then.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Self {
        let root = CGROUPS.into_iter().map(PathBuf::from).find(|root| root.join("cgroup.procs").is_file());
        let path = root.expect("cgroup2 is mounted").join(name);
        fs::create_dir_all(&path).expect("a cgroup");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The cgroup that a process is in.
#[derive(Clone, Copy)]
enum In {
    Beside,
    Idle,
    Counted,
}

struct Worker(Process);

impl Worker {
    fn start(world: &World, name: &str, [cgroup, elsewhere]: [&Cgroup; 2], port: u16) -> Self {
        let own = env::current_exe().expect("the path of this program");
        let port = port.to_string();
        let mut process =
            Process::start(world.folder(), name, &own, ["worker", cgroup.path(), elsewhere.path(), &port]);
        assert_eq!(process.hear(), "ready");
        Self(process)
    }

    fn ask(&mut self, order: &str) -> f64 {
        self.0.say(order);
        self.0.hear().parse().expect("a number")
    }
}

pub fn measure(world: &World, sizes: &Sizes, report: &mut Report) {
    let name = |what: &str| format!("weir-bench-{}-{what}", world.instance());
    let [counted, passed_by, idle] = ["counted", "beside", "idle"].map(|what| Cgroup::make(&name(what)));
    programs::attach_idle(&idle.0);
    let addresses = [COUNTED, PASSED_BY, IDLE].map(|port| ([127, 0, 0, 1], port).into());
    let most = 2_000_000;
    let conf = world.conf().audit("1h").http(&addresses).agent(&format!("cgroup = \"{}\"", counted.path()));
    let agent = world.agent(&conf.plan("p", most, most).zone("one.test", "p").zone("many.test", "p"));
    let mut inside = Worker::start(world, "inside", [&counted, &passed_by], COUNTED);
    let mut beside = Worker::start(world, "beside", [&passed_by; 2], PASSED_BY);

    let mut with_idle = Worker::start(world, "idle", [&idle, &passed_by], IDLE);
    let others = || programs::effective(&passed_by.0);
    let ours: BTreeSet<u32> = programs::effective(&counted.0).difference(&others()).copied().collect();

    let n = sizes.connections;
    let mut cases = [
        (In::Beside, "without accounting", format!("connect {n}")),
        (In::Idle, "with programs that do nothing at the same hooks", format!("connect {n}")),
        (In::Counted, "counted from birth to death, nobody speaks for it", format!("connect {n}")),
        (In::Counted, "and attributed and admitted", format!("speak {n} one.test")),
        (In::Beside, "without accounting, its client's socket made before", format!("serve {n}")),
        (In::Counted, "counted, its client of another cgroup and made before", format!("serve {n}")),
    ];
    let mut ask = |(place, _, order): &mut (In, &str, String)| match place {
        In::Beside => beside.ask(order),
        In::Idle => with_idle.ask(order),
        In::Counted => inside.ask(order),
    };
    let is_quiet = || others().is_empty();
    let Rounds { values, disturbed } =
        quiet_turns(sizes.rounds, &mut cases, sizes.patience, is_quiet, &mut ask);
    report.count(PART, "rounds in which programs of others ran as well", "", disturbed as u64);
    // What each round says of itself: both happened within it.
    let more = |at: usize, than: usize| {
        values[at].iter().zip(&values[than]).map(|(with, without)| with - without).collect()
    };
    let (hooks, counting, all, served) = (more(1, 0), more(2, 0), more(3, 0), more(5, 4));
    for ((_, what, _), values) in cases.iter().zip(&values) {
        report.add(PART, &format!("a connection {what}"), "ns", values.clone());
    }
    report.add(PART, "of this the hooks alone: programs that do nothing", "ns", hooks);
    report.add(PART, "accounting, hooks and all: birth and death", "ns", counting);
    report.add(PART, "accounting, hooks and all: birth, ATTRIBUTE, ADMIT, death", "ns", all);

    report.add(PART, "accounting, where the client is another host's: birth and death", "ns", served);

    let counted_runs = programs::count_runs();
    for (what, order) in [
        ("counted", format!("connect {n}")),
        ("admitted", format!("speak {n} one.test")),
        ("another host's client's", format!("serve {n}")),
    ] {
        let before = programs::runs(&ours);
        ask(&mut (In::Counted, "", order));
        for (name, (runs, time)) in programs::runs(&ours) {
            let (runs_before, time_before) = before.get(&name).copied().unwrap_or_default();
            let runs = runs - runs_before;
            if runs > 0 {
                let a_run = (time - time_before).as_nanos() as f64 / runs as f64;
                report.add(
                    PART,
                    &format!("{name}, a connection that is {what}"),
                    "runs",
                    vec![runs as f64 / f64::from(n)],
                );
                report.add(
                    PART,
                    &format!("{name}, a run of these, by the kernel's statistics"),
                    "ns",
                    vec![a_run],
                );
            }
        }
    }
    drop(counted_runs);

    let n = sizes.admissions;
    let pair = |zone: &str| format!("admit {n} {zone}");
    let mut cases = [
        (In::Beside, "two setsockopt of the kernel's own, without weir", format!("option {n}")),
        (In::Counted, "the same, where weir is attached", format!("option {n}")),
        (In::Counted, "ADMIT and RELEASE, one live", pair("one.test")),
    ];
    let values = turns(sizes.rounds, &mut cases, &mut ask);
    for ((_, what, _), values) in cases.iter().zip(values) {
        report.add(PART, what, "ns", values);
    }

    let mut holders = Vec::new();
    let mut held = 0.0;
    while (held as u32) < sizes.live_websockets {
        let more = A_PROCESS.min(sizes.live_websockets - held as u32);
        let port = FIRST_OF_HOLDERS + holders.len() as u16;
        let mut holder = Worker::start(world, "holder", [&counted, &passed_by], port);
        held += holder.ask(&format!("hold {more} many.test"));
        holders.push(holder);
    }
    report.count(PART, "live WebSockets from here on, each a socket of the kernel", "", held as u64);
    assert_eq!(agent.zone("many.test").websockets, held as u64);
    let mut cases = [
        (In::Counted, "ADMIT and RELEASE, in another zone", pair("one.test")),
        (In::Counted, "ADMIT and RELEASE, in their zone", pair("many.test")),
    ];
    let values = turns(sizes.rounds, &mut cases, &mut ask);
    for ((_, what, _), values) in cases.iter().zip(values) {
        report.add(PART, what, "ns", values);
    }
    drop(holders);
    assert_eq!(agent.zone("many.test").websockets, 0, "all are gone with their sockets");
}
