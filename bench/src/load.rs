//! The work of a row, once, against one contender, and what it cost.
//!
//! Clients are tasks of this one thread, so what they count is read between two steps of them, at the same instant as the process' CPU.
//! A measurement is a window in the middle of the work; what began before it and what ends behind it even each other out.

mod bulk;
mod idle;
mod messages;
mod upgrades;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::Target,
    process::Process,
    rows::{Figure, Row, Sizes, Work},
};

/// What one turn of a contender has given.
pub type Sample = Vec<(Figure, f64)>;

/// A contender's turn in a row.
pub struct Turn<'a> {
    pub target: Rc<Target>,
    pub process: &'a Process,
    pub sizes: &'a Sizes,
}

pub async fn run(row: &Row, turn: &Turn<'_>) -> Result<Sample> {
    match row.work {
        Work::Upgrades { at_once } => upgrades::alone(turn, at_once).await,
        Work::Churn { standing } => upgrades::churn(turn, standing).await,
        Work::Echo { bytes, connections } => messages::echo(turn, bytes, connections).await,
        Work::Latency { a_second, connections } => messages::latency(turn, a_second, connections).await,
        Work::Bulk { way } => bulk::transfer(turn, way).await,
        Work::AgainstBulk => bulk::against(turn).await,
        Work::Idle { connections } => idle::hold(turn, connections).await,
    }
}

/// Clients at work: what they have done, and whether one has failed.
#[derive(Default)]
struct Crew {
    tasks: JoinSet<()>,
    done: Rc<Cell<u64>>,
    failure: Rc<RefCell<Option<io::Error>>>,
}

impl Crew {
    /// Adds one. Its end is a failure only if it says so.
    fn join(&mut self, work: impl Future<Output = io::Result<()>> + 'static) {
        let failure = self.failure.clone();
        self.tasks.spawn_local(async move {
            if let Err(error) = work.await {
                failure.borrow_mut().get_or_insert(error);
            }
        });
    }

    fn counter(&self) -> Rc<Cell<u64>> {
        self.done.clone()
    }

    fn sound(&self) -> Result<()> {
        match self.failure.borrow_mut().take() {
            Some(error) => bail!("a client failed: {error}"),
            None => Ok(()),
        }
    }

    /// Lets them work, then measures for a window.
    async fn measure(&mut self, turn: &Turn<'_>) -> Result<Measured> {
        sleep(turn.sizes.warm).await;
        self.sound()?;
        let begun = (Instant::now(), self.done.get(), turn.process.cpu_seconds()?);
        let mut ended;
        loop {
            sleep(turn.sizes.window).await;
            ended = (Instant::now(), self.done.get(), turn.process.cpu_seconds()?);
            self.sound()?;
            // A machine that is busy with others may need longer for anything at all.
            if ended.1 > begun.1 || ended.0 - begun.0 > Duration::from_secs(10) {
                break;
            }
        }
        let measured = Measured {
            done: (ended.1 - begun.1) as f64,
            seconds: (ended.0 - begun.0).as_secs_f64(),
            cpu_seconds: ended.2 - begun.2,
        };
        if measured.done == 0.0 {
            bail!("nothing was done in {:.1} s", measured.seconds);
        }
        Ok(measured)
    }
}

struct Measured {
    done: f64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Measured {
    fn each(&self) -> Sample {
        vec![
            (Figure::CpuMicros, self.cpu_seconds * 1e6 / self.done),
            (Figure::Rate, self.done / self.seconds),
        ]
    }
}

/// Waits until a process has nothing to do any more: the next one's turn is not to pay for the end of this one's.
pub async fn settle(process: &Process) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(15);
    const AT_MOST: u32 = 200;
    for _ in 0..AT_MOST {
        let before = process.cpu_seconds()?;
        sleep(QUIET).await;
        if process.cpu_seconds()? - before < 2e-4 {
            break;
        }
    }
    Ok(())
}

/// Quantiles of what was seen, in microseconds.
fn quantiles(mut seen_ns: Vec<u64>) -> Sample {
    seen_ns.sort_unstable();
    let at = |share: f64| {
        let index = (seen_ns.len() as f64 * share) as usize;
        seen_ns.get(index.min(seen_ns.len().saturating_sub(1))).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    };
    vec![(Figure::P50Micros, at(0.5)), (Figure::P99Micros, at(0.99)), (Figure::P999Micros, at(0.999))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_seen() {
        let seen = quantiles((1..=1000).rev().map(|us| us * 1000).collect());
        assert_eq!(
            seen,
            [(Figure::P50Micros, 501.0), (Figure::P99Micros, 991.0), (Figure::P999Micros, 1000.0)]
        );
    }
}
