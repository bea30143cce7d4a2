//! A cap under a storm of real clients through real proxies: exact, whatever the number of threads, processes and proxies.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use weir_tests::{
    Agent, HTTP, ORIGIN, SOON, World, eventually,
    origin::{self, Manner},
    storm::{Storm, Tally},
    world,
};

const A: &str = "storm.test";
const CAP: u64 = 1000;
const PROCESSES: usize = 4;
const THREADS: usize = 8;

/// Storms the zone from four processes with eight threads each; every process has one of the addresses.
fn storm(world: &World, agent: &Agent, addresses: [SocketAddr; PROCESSES]) {
    let mut storm = Storm::start(world, &addresses, A, THREADS);

    // Places are taken and given back at the cap.
    let churned = storm.all("churn 70");
    assert_eq!(churned.faults, Vec::<String>::new());
    assert!(churned.refused > 0, "the storm never met the cap: {churned:?}");
    agent.await_live(A, churned.held, churned.held);

    // Nobody gives a place back, and everybody asks until there is none.
    let filled = storm.all("fill");
    assert_eq!(filled.faults, Vec::<String>::new());
    assert_eq!(filled.held, CAP, "the plateau, as the clients see it");
    agent.await_live(A, CAP, CAP);
    assert_books(agent, &filled);
    let scrape = agent.scrape();
    assert_eq!(scrape.of_zone("weir_zone_websockets", A), CAP as f64);
    assert_eq!(scrape.of_zone("weir_zone_refused_total", A), filled.refused as f64);

    let left = storm.all("leave");
    assert_eq!(left.held, 0);
    agent.await_empty();
    assert_books(agent, &left);
    agent.assert_never_drifted();
}

/// What the kernel counted is what the clients saw.
fn assert_books(agent: &Agent, clients: &Tally) {
    let zone = agent.zone(A);
    assert_eq!(zone.websockets_peak, CAP, "the kernel's high-water mark");
    assert_eq!(zone.admitted_total, clients.admitted);
    assert_eq!(zone.refused["abuse_cap"], clients.refused);
    assert_eq!(zone.refused_total, clients.refused);
}

#[test]
fn eight_threads_of_four_processes_never_get_more_than_the_cap_and_get_all_of_it() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 100, CAP).zone(A, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        storm(world, &agent, [HTTP; PROCESSES]);
    });
}

#[test]
fn two_proxies_share_one_cap_exactly() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let other = SocketAddr::new(HTTP.ip(), 8081);
        let conf = world.conf().plan("p", 100, CAP).zone(A, "p");
        let agent = world.agent(&conf.clone().http(&[HTTP, other]));
        let first = world.proxy_called("first", &conf.clone().http(&[HTTP]), HTTP);
        let second = world.proxy_called("second", &conf.http(&[other]), other);
        storm(world, &agent, [HTTP, other, HTTP, other]);
        drop((first, second));
    });
}

#[test]
fn two_proxies_on_one_address_share_one_cap_exactly() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 2, 5).zone(A, "p");
        let agent = world.agent(&conf);
        let proxies = [world.proxy_called("first", &conf, HTTP), world.proxy_called("second", &conf, HTTP)];
        eventually("two listening sockets", SOON, || match weir_tests::ss::listening_on(HTTP.port()) {
            2 => Ok(()),
            other => Err(format!("{other}")),
        });
        let mut storm = Storm::start(world, &[HTTP; 2], A, THREADS);
        let filled = storm.all("fill");
        assert_eq!((filled.held, filled.faults.len()), (5, 0), "{filled:?}");
        agent.await_live(A, 5, 5);
        drop((storm, proxies));
        agent.await_empty();
        assert_eq!(agent.zone(A).websockets_peak, 5);
        agent.assert_never_drifted();
    });
}
