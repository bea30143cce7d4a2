//! What weir's proxy costs, beside its peers, in one run: `cargo xtask bench proxy` starts this.
//!
//! Load and origin have one core, whoever is measured has another. All contenders of a row run side by side, and take turns within each
//! round, so that a busy moment of the machine meets all of them. The main figure is CPU time of the process per piece of work: other work on
//! the machine changes rates, and that hardly. How each figure is taken is in `docs/performance.md`.
//!
//! It knows nothing of weir but its command line.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod contender;
mod frame;
mod load;
mod origin;
mod page;
mod process;
mod report;
mod rows;
mod socket;
mod stage;
mod tls;

use std::{path::PathBuf, process::ExitCode, rc::Rc};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::{
    client::Target,
    contender::{Agent, Contender, Kind, Programs},
    load::Turn,
    process::Process,
    report::Report,
    rows::{Row, Security, Sizes, Work},
    stage::Stage,
};

/// The one host of all requests.
const HOST: &str = "bench.test";

#[derive(Parser)]
#[command(about = "What weir's proxy costs, beside its peers")]
enum Command {
    /// Measure
    Run(Options),
    /// Be the origin
    #[command(hide = true)]
    Origin { folder: PathBuf },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    Haproxy,
    Nginx,
    Sozu,
}

#[derive(clap::Args)]
struct Options {
    /// The weir to measure
    #[arg(long)]
    weir: PathBuf,
    /// Peers to measure beside it
    #[arg(long, value_delimiter = ',', default_value = "haproxy,nginx")]
    vs: Vec<Peer>,
    /// The program of Sōzu
    #[arg(long)]
    sozu: Option<PathBuf>,
    /// Three short rounds, and no row of 100,000
    #[arg(long)]
    quick: bool,
    /// Sizes that say nothing, to see that it runs
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Only rows whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write tables and plots into the page of this folder; only a run of all rows does
    #[arg(long, conflicts_with = "rows")]
    docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(options) => run(&options),
        Command::Origin { folder } => be_origin(&folder).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

fn be_origin(folder: &std::path::Path) -> Result<()> {
    let (http, https) = contender::origins();
    LocalSet::new().block_on(&runtime()?, origin::serve(folder, &http, &https))
}

fn run(options: &Options) -> Result<ExitCode> {
    let mut sizes = match (options.smoke, options.quick) {
        (true, _) => Sizes::SMOKE,
        (_, true) => Sizes::QUICK,
        _ => Sizes::FULL,
    };
    let mut kinds = vec![Kind::Direct, Kind::Weir, Kind::WeirUncounted];
    kinds.extend(options.vs.iter().map(|peer| match peer {
        Peer::Haproxy => Kind::Haproxy,
        Peer::Nginx => Kind::Nginx,
        Peer::Sozu => Kind::Sozu,
    }));
    let programs = Programs { weir: std::path::absolute(&options.weir)?, sozu: options.sozu.clone() };
    for kind in &kinds {
        programs.find(*kind)?;
    }
    let stage = Stage::set()?;
    if stage.websockets < sizes.idle {
        eprintln!("open files are limited: {} idle WebSockets instead of {}", stage.websockets, sizes.idle);
        sizes.idle = stage.websockets;
    }
    let mut chosen = rows::all(&sizes);
    chosen.retain(|row| {
        options.rows.is_empty() || options.rows.iter().any(|word| row.to_string().contains(word))
    });
    if chosen.is_empty() {
        let names: Vec<_> = rows::all(&sizes).iter().map(Row::to_string).collect();
        bail!("no row is called so; there are:\n{}", names.join("\n"));
    }
    tls::certify(stage.folder())?;
    let folder = stage.folder().to_str().context("a path that is not UTF-8")?;
    let origin = Process::start_own(stage.folder(), stage.cores.load, &["origin", folder])?;
    let agent = Agent::start(&stage, &programs.weir)?;
    let bench = Bench { stage: &stage, programs: &programs, origin: &origin, sizes: &sizes, kinds: &kinds };
    let mut report = Report::default();
    let interrupted = LocalSet::new().block_on(&runtime()?, async {
        let mut stop = signal(SignalKind::interrupt())?;
        let mut end = signal(SignalKind::terminate())?;
        tokio::select! {
            measured = bench.measure(&chosen, &mut report) => measured.map(|()| false),
            _ = stop.recv() => Ok(true),
            _ = end.recv() => Ok(true),
        }
    })?;
    drop((origin, agent));
    if interrupted {
        bail!("interrupted: nothing is left behind");
    }

    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        print!("{}", page::tables(&report));
    }
    if let Some(docs) = &options.docs {
        page::write(docs, &report, &sizes, &programs)?;
        eprintln!("written: {}", docs.join("performance.md").display());
    }
    if report.failures().is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    report.failures().iter().for_each(|failure| eprintln!("not measured: {failure}"));
    Ok(ExitCode::FAILURE)
}

struct Bench<'a> {
    stage: &'a Stage,
    programs: &'a Programs,
    origin: &'a Process,
    sizes: &'a Sizes,
    kinds: &'a [Kind],
}

impl Bench<'_> {
    async fn measure(&self, rows: &[Row], report: &mut Report) -> Result<()> {
        for (at, row) in rows.iter().enumerate() {
            eprintln!("== {} of {}: {row}", at + 1, rows.len());
            let idle = matches!(row.work, Work::Idle { .. });
            let sittings = if idle { self.sizes.idle_rounds } else { 1 };
            let rounds = if idle { 1 } else { self.sizes.rounds };
            for _ in 0..sittings {
                // Processes of its own for each row: memory that an earlier one needed would not show.
                let started =
                    self.kinds.iter().map(|kind| Contender::start(*kind, self.stage, self.programs));
                let mut contenders = started.collect::<Result<Vec<_>>>()?;
                for round in 0..rounds {
                    for contender in &mut contenders {
                        contender.assert_running()?;
                        self.turn(row, round, contender, report).await?;
                    }
                }
            }
            for figure in report.figures(row).into_iter().filter(|figure| figure.is_main()) {
                let medians = self
                    .kinds
                    .iter()
                    .filter_map(|kind| Some(format!("{kind} {:.2}", report.get(row, figure, *kind)?.median)));
                eprintln!("   {}: {}", figure.title(), medians.collect::<Vec<_>>().join(", "));
            }
        }
        Ok(())
    }

    /// A contender that fails loses its turn, and the run goes on.
    async fn turn(&self, row: &Row, round: usize, contender: &Contender, report: &mut Report) -> Result<()> {
        let secure = row.security != Security::Ws;
        let resumes = row.security == Security::WssResumed;
        let tls = secure.then(|| tls::client(self.stage.folder(), resumes)).transpose()?;
        let target = Rc::new(Target::new(contender.addresses(secure), tls, resumes));
        let turn = Turn { target, process: contender.process(self.origin), sizes: self.sizes };
        match load::run(row, &turn).await {
            Ok(sample) => report.add(*row, contender.kind, sample),
            Err(why) => {
                let why = why.context(format!("round {}", round + 1));
                eprintln!("   {}: {why:#}", contender.kind);
                report.failed(row, contender.kind, &why);
            }
        }
        load::settle(turn.process).await?;
        load::settle(self.origin).await
    }
}
