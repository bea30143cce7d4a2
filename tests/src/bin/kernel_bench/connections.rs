//! CPU a connection, with accounting and without, and an admission beside few and beside very many live WebSockets.
//!
//! Two processes do the same at the same time of the day: one in the cgroup that the programs are attached to, one in a cgroup beside it.

use std::{env, fs, path::PathBuf};

use weir_tests::{Process, World};

use crate::{
    Sizes,
    bed::A_PROCESS,
    figures::{Report, turns},
};

const PART: &str = "a connection and an admission (CPU time of one process with both ends)";
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
const COUNTED: u16 = 8080;
const PASSED_BY: u16 = 8081;
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

struct Worker(Process);

impl Worker {
    fn start(world: &World, name: &str, cgroup: &Cgroup, port: u16) -> Self {
        let own = env::current_exe().expect("the path of this program");
        let port = port.to_string();
        let mut process = Process::start(world.folder(), name, &own, ["worker", cgroup.path(), &port]);
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
    let (counted, passed_by) = (Cgroup::make(&name("counted")), Cgroup::make(&name("beside")));
    let addresses = [COUNTED, PASSED_BY].map(|port| ([127, 0, 0, 1], port).into());
    let most = 2_000_000;
    let conf = world.conf().audit("1h").http(&addresses).agent(&format!("cgroup = \"{}\"", counted.path()));
    let agent = world.agent(&conf.plan("p", most, most).zone("one.test", "p").zone("many.test", "p"));
    let mut inside = Worker::start(world, "inside", &counted, COUNTED);
    let mut beside = Worker::start(world, "beside", &passed_by, PASSED_BY);

    let n = sizes.connections;
    let mut cases = [
        (false, "without accounting", format!("connect {n}")),
        (true, "counted from birth to death, nobody speaks for it", format!("connect {n}")),
        (true, "and attributed and admitted", format!("speak {n} one.test")),
    ];
    let mut ask = |(is_inside, _, order): &mut (bool, &str, String)| {
        if *is_inside { inside.ask(order) } else { beside.ask(order) }
    };
    let values = turns(sizes.rounds, &mut cases, &mut ask);
    // What each round says of itself: both happened within it.
    let more = |at: usize| values[at].iter().zip(&values[0]).map(|(with, without)| with - without).collect();
    let (counting, all) = (more(1), more(2));
    for ((_, what, _), values) in cases.iter().zip(&values) {
        report.add(PART, &format!("a connection {what}"), "ns", values.clone());
    }
    report.add(PART, "accounting alone: birth and death", "ns", counting);
    report.add(PART, "accounting alone: birth, ATTRIBUTE, ADMIT, death", "ns", all);

    let n = sizes.admissions;
    let pair = |zone: &str| format!("admit {n} {zone}");
    let mut cases = [
        (false, "two setsockopt of the kernel's own, without weir", format!("option {n}")),
        (true, "the same, where weir is attached", format!("option {n}")),
        (true, "ADMIT and RELEASE, one live", pair("one.test")),
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
        let mut holder = Worker::start(world, "holder", &counted, port);
        held += holder.ask(&format!("hold {more} many.test"));
        holders.push(holder);
    }
    report.count(PART, "live WebSockets from here on, each a socket of the kernel", "", held as u64);
    assert_eq!(agent.zone("many.test").websockets, held as u64);
    let mut cases = [
        (true, "ADMIT and RELEASE, in another zone", pair("one.test")),
        (true, "ADMIT and RELEASE, in their zone", pair("many.test")),
    ];
    let values = turns(sizes.rounds, &mut cases, &mut ask);
    for ((_, what, _), values) in cases.iter().zip(values) {
        report.add(PART, what, "ns", values);
    }
    drop(holders);
    assert_eq!(agent.zone("many.test").websockets, 0, "all are gone with their sockets");
}
