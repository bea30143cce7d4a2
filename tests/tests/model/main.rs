//! The kernel against a model: connections are opened, spoken for and ended in every way, configurations change, agents and proxies are
//! killed, in an order that a seed decides; after each step every count of the kernel is the model's.
//!
//! Runs for about a minute, or for as long as `WEIR_MODEL_FOR` says (`2h`). Seeds that failed are kept in `failed-seeds` and played first;
//! `WEIR_MODEL_SEED` plays one alone.
#![forbid(unsafe_code)]

mod books;
mod kernel;
mod play;
mod stage;

use std::{
    env, fs,
    fs::File,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use play::{Journal, Play};
use weir_tests::world;

const STEPS: u32 = 150;
const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_kernels_counts_are_the_models_after_every_step() {
    if let Ok(seed) = env::var("WEIR_MODEL_SEED") {
        play(seed.parse().expect("WEIR_MODEL_SEED is a number"));
        return;
    }
    let time = env::var("WEIR_MODEL_FOR").map_or(A_MINUTE, |time| duration(&time));
    kept().into_iter().for_each(play);
    let (start, mut plays) = (Instant::now(), 0);
    while plays == 0 || start.elapsed() < time {
        play(fastrand::u64(..));
        plays += 1;
    }
    println!("{plays} plays of {STEPS} steps");
}

/// Plays a seed; keeps it if it fails.
fn play(seed: u64) {
    println!("seed {seed}");
    let journal = Journal::default();
    let told = journal.clone();
    let played = catch_unwind(AssertUnwindSafe(|| {
        world(move |world| {
            let mut play = Play::begin(world, seed, told);
            play.go_on(STEPS);
            play.end();
        });
    }));
    if let Err(panic) = played {
        eprintln!("WEIR_MODEL_SEED={seed} failed after these steps:\n{}", journal.text());
        keep(seed);
        resume_unwind(panic);
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/failed-seeds")
}

fn kept() -> Vec<u64> {
    let text = fs::read_to_string(file()).expect("the kept seeds");
    let seeds = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    seeds.filter(|seed| !seed.is_empty()).map(|seed| seed.parse().expect("a seed a line")).collect()
}

fn keep(seed: u64) {
    if !kept().contains(&seed) {
        let mut file = File::options().append(true).open(file()).expect("the kept seeds");
        writeln!(file, "{seed}").expect("a kept seed");
    }
}

/// A number and `s`, `m` or `h`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("WEIR_MODEL_FOR is a number and s, m or h: {text}"),
    };
    Duration::from_secs(number.parse::<u64>().expect("a number in WEIR_MODEL_FOR") * seconds)
}
