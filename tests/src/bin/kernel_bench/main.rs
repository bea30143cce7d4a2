//! What the kernel's side costs, beside what else there is for the same job, in one run: `cargo xtask bench kernel` starts this.
//!
//! Every figure is a median over rounds, and what is compared takes turns within a round, so that a busy moment of the machine meets
//! all of them. Everything happens in network namespaces of its own. What is timed is kernel work; what this program adds to it is the
//! same for all.
//!
//! Arguments: `run [--smoke] [--json] [--only NAME]`, or what it starts itself as.
#![forbid(unsafe_code)]

mod bed;
mod connections;
mod figures;
mod flood;
mod packets;
mod peers;
mod worker;

use std::{
    env, process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use figures::Report;
use weir_tests::{World, world};

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub rounds: usize,
    /// Runs of an XDP program in a round.
    pub packets: u32,
    /// Connections in a round.
    pub connections: u32,
    pub admissions: u32,
    /// Entries of each full table.
    pub entries: u32,
    pub live_websockets: u32,
    /// Live connections per source.
    pub live: [u32; 3],
    /// Tries above a cap.
    pub tries: u32,
    pub flood_ms: u64,
    /// For the host's other programs to go.
    pub patience: Duration,
    /// For everything; then it ends, whatever it does.
    pub bound: Duration,
}

const FULL: Sizes = Sizes {
    rounds: 7,
    packets: 1_000_000,
    connections: 3000,
    admissions: 20_000,
    entries: 200_000,
    live_websockets: 1_000_000,
    live: [1, 1000, 20_000],
    tries: 400,
    flood_ms: 1000,
    patience: Duration::from_secs(120),
    bound: Duration::from_secs(30 * 60),
};

const SMOKE: Sizes = Sizes {
    rounds: 1,
    packets: 100,
    connections: 10,
    admissions: 10,
    entries: 50,
    live_websockets: 50,
    live: [1, 5, 10],
    tries: 40,
    flood_ms: 50,
    patience: Duration::ZERO,
    bound: Duration::from_secs(10 * 60),
};

type Part = fn(&World, &Sizes, &mut Report);

const PARTS: [(&str, Part); 5] = [
    ("packets", packets::measure),
    ("connections", connections::measure),
    ("peers", peers::cost),
    ("exactness", peers::exactness),
    ("flood", flood::measure),
];

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", cgroup, elsewhere, port] => worker::obey(cgroup, elsewhere, port.parse().expect("a port")),
        ["clients"] => bed::be_clients(),
        ["run", options @ ..] => run(options),
        other => panic!("no such job: {other:?}"),
    }
}

fn run(options: &[&str]) {
    let sizes = if options.contains(&"--smoke") { SMOKE } else { FULL };
    let only = options.iter().position(|option| *option == "--only").and_then(|at| options.get(at + 1));
    let report = Arc::new(Mutex::new(Report::default()));
    thread::spawn(move || {
        thread::sleep(sizes.bound);
        eprintln!("this takes longer than {:?}: given up", sizes.bound);
        process::exit(1);
    });
    for (name, part) in PARTS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == name)) {
        let report = Arc::clone(&report);
        world(move |world| {
            let began = Instant::now();
            eprintln!("== {name}");
            part(world, &sizes, &mut report.lock().unwrap_or_else(PoisonError::into_inner));
            eprintln!("   ({name} took {:.0} s)", began.elapsed().as_secs_f64());
        });
    }
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    if options.contains(&"--json") {
        println!("{}", serde_json::to_string_pretty(&*report).expect("a report in JSON"));
    } else {
        print!("{report}");
    }
}
