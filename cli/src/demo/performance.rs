//! The demo from the first process to the last number.

use std::{collections::HashMap, process::ExitCode, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use weir_agent::ZoneRecord;

use super::{
    crowd::{Crowd, Phase},
    house::House,
    kernel::Kernel,
    origin::Origin,
    picture::{View, scrape_config},
    scenario::{GUEST, ROLES},
    show::{self, Show},
    story::Story,
    verdict::{Verdict, Witness, all_agree},
};
use crate::{
    admin::{Admin, AdminError},
    signals::Stop,
    supervisor::{Launch, Pair},
    text::{Line, Style},
};

/// Between two frames.
const FRAME: Duration = Duration::from_millis(500);
/// How long the kernel's numbers may take to be those of clients that hold still. A closed socket lives on for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is performed, and where.
pub struct Performance<'a> {
    pub house: &'a House,
    /// Of [`ROLES`].
    pub origins: &'a [Origin],
    /// After which it ends by itself.
    pub total: Option<Duration>,
    pub plain: bool,
}

impl Performance<'_> {
    /// Starts the pair and plays until the time is over or `stop`. The pair is left running.
    pub async fn play(&self, pair: &mut Pair, stop: &mut Stop) -> anyhow::Result<ExitCode> {
        show::say(&self.programme());
        let launch = Launch {
            config: self.house.config(),
            admin: self.house.ports.admin,
            log: Default::default(),
            log_folder: Some(self.house.folder().to_owned()),
        };
        tokio::select! {
            started = pair.start(&launch) => started?,
            () = stop.requested() => return Ok(ExitCode::SUCCESS),
        }
        let mut crowd = Crowd::gather(self.house.way());
        let mut kernel = Kernel::new(Admin::at(self.house.ports.admin));
        self.watch(&mut kernel, pair, stop).await?;

        show::say(&[Line::new(Style::Faint, "the clients hold still, to be compared with the kernel ...")]);
        let verdict = tokio::select! {
            verdict = self.compare(&mut crowd, &mut kernel) => verdict,
            error = pair.failure() => return Err(error),
            () = stop.requested() => {
                show::say(&[Line::new(Style::Warn, "asked again: nothing is compared")]);
                return Ok(ExitCode::SUCCESS);
            }
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) => return Err(cause(pair, error).await),
        };
        show::say(&verdict.lines());
        Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What is about to be seen.
    fn programme(&self) -> Vec<Line> {
        let ports = self.house.ports;
        let with_tls = ROLES.iter().filter(|role| role.tls).count();
        let entry = |name: &str, text: String| {
            Line::new(Style::Faint, format!("  {name:<12}")).and(Style::Plain, text)
        };
        let mut lines = vec![
            Line::new(Style::Accent, "weir demo")
                .and(Style::Plain, "  agent and proxy, origins and clients, all on this host"),
            entry(
                "proxy",
                format!("ws on {}, wss on {} ({with_tls} of {} zones)", ports.http, ports.https, ROLES.len()),
            ),
            entry("agent", format!("http://{}", ports.admin)),
            entry(
                "folder",
                format!("{} (weir.toml: save a change, and it is taken over)", self.house.folder().display()),
            ),
            entry("zones", format!("weir zones --admin http://{}", ports.admin)),
            entry("browser", format!("http://{GUEST}:{}/ to open WebSockets of your own", ports.http.port())),
            entry("Prometheus", format!("http://{}/metrics", ports.admin)),
        ];
        lines.extend(scrape_config(ports).into_iter().map(|text| entry("", text)));
        lines
    }

    /// Shows what happens until it is time to end.
    async fn watch(&self, kernel: &mut Kernel, pair: &mut Pair, stop: &mut Stop) -> anyhow::Result<()> {
        let begun = Instant::now();
        let end = self.total.map(|total| begun + total);
        let mut show = Show::begin(self.plain)?;
        let mut story = Story::default();
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = frames.tick() => {}
                () = until(end) => return Ok(()),
                () = stop.requested() => return Ok(()),
                error = pair.failure() => return Err(error),
            }
            let looked = tokio::select! {
                looked = kernel.look() => looked,
                () = stop.requested() => return Ok(()),
            };
            let events = match looked {
                Ok(events) => events,
                Err(error) => return Err(cause(pair, error).await),
            };
            let elapsed = begun.elapsed();
            story.go_on(elapsed, &events, &kernel.zones);
            let view = View {
                elapsed,
                total: self.total,
                zones: &kernel.zones,
                history: &kernel.history,
                entries: &story.entries,
                ports: self.house.ports,
            };
            // A terminal that has gone is a way to say: end.
            if show.update(&view).is_err() {
                return Ok(());
            }
        }
    }

    /// Has the clients hold still, compares, and has them leave.
    async fn compare(&self, crowd: &mut Crowd, kernel: &mut Kernel) -> Result<Verdict, AdminError> {
        crowd.settle(Phase::Hold).await;
        // What guests do nobody can hold: what they have done by then is read each time.
        let mut witnesses = HashMap::new();
        let agree = |zones: &[ZoneRecord]| {
            witnesses = self.witnesses(crowd);
            all_agree(zones, &witnesses)
        };
        kernel.until(PATIENCE, agree).await?;
        let zones = kernel.zones.clone();
        // The audit that may be on its way saw some of the movement before.
        let audit = kernel.audit(2, PATIENCE).await?;
        crowd.settle(Phase::Leave).await;
        let left = |zones: &[ZoneRecord]| -> u64 {
            zones.iter().filter(|zone| zone.zone != GUEST).map(|zone| zone.websockets).sum()
        };
        kernel.until(PATIENCE, |zones| left(zones) == 0).await?;
        let failures = crowd.tallies().into_iter().filter_map(|(zone, tally)| {
            Some(format!("{zone}: {} clients failed, one because {}", tally.failed, tally.failure?))
        });
        Ok(Verdict {
            left: left(&kernel.zones),
            failures: failures.collect(),
            warnings: self.house.warnings(),
            zones,
            witnesses,
            audit,
        })
    }

    /// What the zones' clients saw; of guests, what their origin saw.
    fn witnesses(&self, crowd: &Crowd) -> HashMap<&'static str, Witness> {
        let own = crowd.tallies().into_iter().map(|(zone, tally)| {
            let (admitted, refused, open) = (tally.admitted, Some(tally.refused), tally.open);
            (zone, Witness { admitted, refused, open, most_open: tally.most_open })
        });
        let guests = ROLES.iter().zip(self.origins).filter(|(role, _)| role.zone == GUEST);
        let guests = guests.map(|(role, origin)| {
            let (opened, open) = (origin.visits.opened.load(Relaxed), origin.visits.open.load(Relaxed));
            (role.zone, Witness { admitted: opened, refused: None, open, most_open: open })
        });
        own.chain(guests).collect()
    }
}

/// An agent that does not answer has often just ended, which says more.
async fn cause(pair: &mut Pair, error: AdminError) -> anyhow::Error {
    timeout(FRAME, pair.failure()).await.unwrap_or_else(|_| error.into())
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
