//! The agent: it may come late, go, come back, be one too many; it audits itself, and hides nothing from who scrapes it.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpListener, TcpStream},
    thread,
};

use nix::{errno::Errno, sys::signal::Signal};
use socket2::{Domain, Socket, Type};
use weir_common::{ABI_VERSION, listener::WEBSOCKETS};
use weir_tests::{
    ADMIN, HTTP, SOON, eventually,
    gate::{Gate, syn},
    sockopt, world,
};

const A: &str = "a.test";

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(HTTP).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    (client, accepted)
}

fn probe() -> Result<(), Errno> {
    sockopt::probe(Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"), ABI_VERSION.into())
}

#[test]
fn a_wrong_count_is_seen_told_and_set_right() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let connection = pair(&listener);
        sockopt::admit(&connection.1, A).expect("admitted");
        let slot = agent.zone(A).slot;

        world.pinned().falsify(slot, 3, 2);
        eventually("the right count", SOON, || match agent.live(A) {
            (1, 1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let drifts = agent.events_of("drift");
        assert_eq!(drifts.len(), 1, "{drifts:?}");
        assert!(drifts[0].message.as_deref().is_some_and(|text| text.contains('5')), "3 and 2: {drifts:?}");
        assert!(agent.process.log().contains("counts differ"), "the log tells it");

        // Too low, and with that below zero.
        world.pinned().falsify(slot, -2, -2);
        eventually("a second repair", SOON, || match agent.events_of("drift").len() {
            2 => Ok(()),
            other => Err(format!("{other} drifts")),
        });
        assert_eq!(agent.live(A), (1, 1));
        assert_eq!(agent.scrape().value("weir_audit_repairs_total"), 2.0);
        assert_eq!(agent.await_audit().audit.drift_sockets, 0, "and then all is well");
        assert_eq!(agent.scrape().value("weir_accounting_drift_sockets"), 0.0);
        drop(connection);
        agent.await_empty();
    });
}

#[test]
fn each_scraper_sees_each_spike_however_short() {
    const PEAK: &str = "weir_zone_websockets_peak";
    const LIVE: &str = "weir_zone_websockets";
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, 100).zone(A, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        agent.scrape();
        agent.scrape_from(2);

        let spike: Vec<_> = (0..7).map(|_| pair(&listener)).collect();
        spike.iter().for_each(|(_, accepted)| sockopt::admit(accepted, A).expect("admitted"));
        drop(spike);
        agent.await_live(A, 0, 0);

        let scrape = agent.scrape();
        assert_eq!((scrape.of_zone(LIVE, A), scrape.of_zone(PEAK, A)), (0.0, 7.0), "between two scrapes");
        assert_eq!(agent.scrape().of_zone(PEAK, A), 0.0, "once");
        assert_eq!(
            agent.scrape_from(2).of_zone(PEAK, A),
            7.0,
            "the first scraper took nothing from the second"
        );
        assert_eq!(agent.scrape_from(2).of_zone(PEAK, A), 0.0);
        assert_eq!(agent.zone(A).websockets_peak, 7, "the API's is since the agent's start");
        assert_eq!(agent.zone(A).websockets_peak_recent, 7);
        agent.assert_never_drifted();
    });
}

#[test]
fn no_scrape_shows_more_live_websockets_than_its_peak() {
    const CLIMB: usize = 10_000;
    world(|world| {
        // The last of many zones, so that time passes between the look at the peaks and the reading of its numbers.
        let conf =
            (0..400).fold(world.conf().plan("p", 5, 20_000), |conf, n| conf.zone(&format!("z{n}.test"), "p"));
        let agent = world.agent(&conf);
        let scrape = || {
            let scrape = agent.scrape();
            let of = |name| scrape.of_zone(name, "z99.test");
            (of("weir_zone_websockets"), of("weir_zone_websockets_peak"))
        };
        thread::scope(|scope| {
            let climbing = scope.spawn(|| {
                let climb =
                    (0..CLIMB).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"));
                climb
                    .inspect(|socket| sockopt::admit(socket, "z99.test").expect("admitted"))
                    .collect::<Vec<_>>()
            });
            let mut scrapes = 0;
            while !climbing.is_finished() {
                let (live, peak) = scrape();
                assert!(live <= peak, "{live} live WebSockets, and a peak of {peak}");
                scrapes += 1;
            }
            assert!(scrapes > 1, "the climb was over before it was seen");
            let held = climbing.join().expect("the climb");
            assert_eq!(scrape(), (held.len() as f64, held.len() as f64));
        });
        agent.await_empty();
    });
}

#[test]
fn an_instance_has_one_agent() {
    world(|world| {
        let conf = world.conf().plan("p", 5, 10).zone(A, "p");
        let agent = world.agent(&conf);
        let other_admin = conf.to_string().replace(&ADMIN.to_string(), "127.0.0.1:9466");
        let file = world.write("second.toml", &other_admin);
        let mut second = world.weir("second", ["agent", "--config", file.to_str().expect("a path")]);
        assert!(!second.wait(SOON).success());
        let log = second.log();
        assert!(log.contains("another agent") && log.contains(world.instance()), "{log}");
        assert_eq!(probe(), Ok(()), "and the first goes on");
        assert_eq!(agent.get("/readyz").status, 200);
    });
}

#[test]
fn unload_leaves_nothing_behind() {
    world(|world| {
        let mut agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        assert!(world.pins().is_dir());
        let unload = |name: &str| world.weir(name, ["agent", "--unload", "--instance", world.instance()]);

        let mut refused = unload("unload-too-early");
        assert!(!refused.wait(SOON).success(), "not below a running agent");
        assert_eq!(probe(), Ok(()));

        agent.process.signal(Signal::SIGTERM);
        assert!(agent.process.wait(SOON).success());
        assert_eq!(probe(), Ok(()), "an agent that ends leaves its programs in force");
        assert!(unload("unload").wait(SOON).success());
        assert_eq!(probe(), Err(Errno::ENOPROTOOPT), "the kernel knows nothing of weir any more");
        assert!(!world.pins().exists());

        let mut again = unload("unload-again");
        assert!(again.wait(SOON).success(), "nothing to do is no fault");
        assert_eq!(
            world.agent(&world.conf().plan("p", 5, 10).zone(A, "p")).sockets(),
            0,
            "and a new life is fresh"
        );
    });
}

#[test]
fn sockets_from_before_the_agent_are_told_and_can_still_be_counted() {
    world(|world| {
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let early: Vec<_> = (0..3).map(|_| pair(&listener)).collect();
        let agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        assert_eq!(agent.host().audit.untracked_sockets, 3);
        assert_eq!(agent.sockets(), 0);

        assert_eq!(sockopt::admit(&early[0].1, A), Ok(()));
        assert_eq!(sockopt::attribute(&early[1].1, A), Ok(()));
        assert_eq!(agent.live(A), (2, 1));
        assert_eq!(agent.await_audit().audit.untracked_sockets, 1);
        drop(early);
        agent.await_empty();
        assert_eq!(agent.zone(A).closed.values().sum::<u64>(), 2);
        agent.assert_never_drifted();
    });
}

/// Families without a series where no zone outgrows its plan, and none is attacked.
const OF_CASES: [&str; 9] = [
    "weir_zone_over_guideline_ratio",
    "weir_zone_budget_spent_ratio",
    "weir_zone_counted_spikes",
    "weir_case_state",
    "weir_case_days_in_state",
    "weir_notices",
    "weir_notice_attempts_total",
    "weir_zone_verdict_active",
    "weir_zone_verdict_end_timestamp_seconds",
];

#[test]
fn every_metric_is_documented_and_every_documented_one_is_served() {
    world(|world| {
        let on_lo = "interfaces = [{ name = \"lo\", mode = \"generic\" }]";
        let agent = world.agent(&world.conf().xdp(on_lo).plan("p", 1, 1).zone(A, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        // Families that are there once something occurred.
        let pairs = [pair(&listener), pair(&listener)];
        let gone = pair(&listener);
        sockopt::attribute(&gone.1, A).expect("attributed");
        drop(gone);
        sockopt::admit(&pairs[0].1, A).expect("admitted");
        sockopt::admit(&pairs[1].1, A).expect_err("above the cap");
        world.dedicate(HTTP, agent.zone(A).slot, WEBSOCKETS);
        assert!(!Gate::on("lo").passes(&syn(HTTP.ip(), HTTP)), "dropped for its zone");
        world.hand(&["zone", "block", A, "--for", "1h", "--reason", "a lease has its series"]).done();
        agent.await_live(A, 1, 1);
        agent.await_audit();

        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = fs::read_to_string(page).expect("docs/metrics.md");
        let documented: BTreeSet<String> = page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| {
                (word.starts_with("weir_") || word.starts_with("process_")) && !word.ends_with('_')
            })
            .filter(|word| !word.starts_with("weir_proxy_"))
            .map(|word| word.split(['{', '=']).next().unwrap_or(word).to_owned())
            .collect();
        let scrape = agent.scrape();
        let served = scrape.families().clone();
        drop(pairs);
        // These are there once a zone is above its guideline, or has a case (see `reachout.rs`).
        let documented: BTreeSet<String> =
            documented.into_iter().filter(|name| !OF_CASES.contains(&name.as_str())).collect();
        assert_eq!(served.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "served only");
        assert_eq!(
            documented.difference(&served).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "documented only"
        );

        let reasons: BTreeSet<&str> =
            weir_common::reason::Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        for reason in reasons {
            assert!(page.contains(&format!("| `{reason}` |")), "docs/metrics.md has no reason `{reason}`");
        }
        for outcome in weir_common::verdict::Outcome::ALL {
            let reason = outcome.label();
            assert!(page.contains(&format!("| `{reason}` |")), "docs/metrics.md has no reason `{reason}`");
        }
    });
}
