//! Processes that are killed: the kernel goes on counting and refusing, and nothing is off by one afterwards.
#![forbid(unsafe_code)]

use std::net::TcpStream;

use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, SOON, World, eventually,
    origin::{self, Manner},
    ss,
    storm::Storm,
    websocket, world,
};

const A: &str = "a.test";
const B: &str = "b.test";

fn open(count: usize) -> Vec<TcpStream> {
    websocket::connect_many(HTTP, count, |_| A.to_owned())
}

fn refused() {
    let answer = websocket::open(HTTP, A).expect("an answer").declined();
    assert_eq!(websocket::fault_of_refusal(&answer, A, "abuse_cap"), None);
}

/// Kills the agent, as `kill -9` does; a later one has the same configuration.
fn kill(agent: Agent) {
    let Agent { mut process, .. } = agent;
    process.kill();
}

fn again(world: &World, conf: &Conf) -> Agent {
    let agent = world.agent(conf);
    assert!(agent.host().adopted, "the agent takes over what is pinned");
    agent
}

#[test]
fn a_killed_proxy_leaves_no_count_behind() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 100, 5000).zone(A, "p");
        let agent = world.agent(&conf);
        let mut proxy = world.proxy(&conf, HTTP);
        let clients = open(2000);
        agent.await_live(A, 2000, 2000);

        proxy.process.kill();
        agent.await_empty();
        assert_eq!(ss::accepted_on(HTTP.port()).len(), 0);
        let zone = agent.zone(A);
        assert_eq!((zone.admitted_total, zone.websockets_peak), (2000, 2000));
        assert_eq!(zone.closed.values().sum::<u64>(), 2000);
        agent.assert_never_drifted();
        drop(clients);

        let _proxy = world.proxy(&conf, HTTP);
        drop(open(1));
        agent.await_empty();
        assert_eq!(agent.zone(A).admitted_total, 2001, "its successor goes on in the same books");
    });
}

#[test]
fn the_counts_of_a_killed_proxy_return_to_zero_without_any_user_space() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 100, 5000).zone(A, "p");
        let agent = world.agent(&conf);
        let mut proxy = world.proxy(&conf, HTTP);
        let _clients = open(200);
        agent.await_live(A, 200, 200);
        let (slot, pinned) = (agent.zone(A).slot, world.pinned());
        kill(agent);
        assert_eq!(pinned.live(slot), (200, 200));

        proxy.process.kill();
        eventually("empty books in the kernel", SOON, || match pinned.live(slot) {
            (0, 0) => Ok(()),
            live => Err(format!("{live:?}")),
        });
    });
}

#[test]
fn without_its_agent_the_kernel_counts_and_refuses_and_the_next_agent_knows_it_all() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 10, 50).zone(A, "p").zone(B, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let mut clients = open(30);
        agent.await_live(A, 30, 30);
        let slot = agent.zone(A).slot;
        kill(agent);

        clients.extend(open(20));
        (0..7).for_each(|_| refused());
        clients.drain(..10);
        let pinned = world.pinned();
        eventually("ten fewer", SOON, || match pinned.live(slot) {
            (40, 40) => Ok(()),
            live => Err(format!("{live:?}")),
        });
        clients.extend(open(5));
        // Three that have not said yet to whom they want.
        let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(HTTP).expect("a connection")).collect();
        eventually("all of them in the kernel's list", SOON, || match ss::accepted_on(HTTP.port()).len() {
            48 => Ok(()),
            other => Err(format!("{other}")),
        });

        let agent = again(world, &conf);
        let zone = agent.zone(A);
        assert_eq!((zone.sockets, zone.websockets, zone.slot), (45, 45, slot));
        assert_eq!((zone.admitted_total, zone.refused["abuse_cap"]), (55, 7), "totals go on");
        assert_eq!(zone.closed.values().sum::<u64>(), 10 + 7, "a refused connection is closed");
        assert_eq!(zone.websockets_peak, 50, "a peak from before this agent's time");
        assert_eq!(agent.zones().unattributed_sockets, 3);

        clients.extend(open(5));
        refused();
        assert_eq!(agent.live(A).1, 50, "the cap is as exact as before");
        drop((clients, silent));
        agent.await_empty();
        let zone = agent.zone(A);
        assert_eq!((zone.admitted_total, zone.refused["abuse_cap"]), (60, 8));
        agent.assert_never_drifted();
    });
}

#[test]
fn agents_that_come_and_go_in_a_storm_change_nothing() {
    const CAP: u64 = 100;
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 10, CAP).zone(A, "p");
        let mut agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let mut storm = Storm::start(world, &[HTTP; 2], A, 4);
        storm.begin("churn 400");
        for _ in 0..5 {
            let before = agent.zone(A).admitted_total;
            eventually("admissions", SOON, || {
                let now = agent.zone(A).admitted_total;
                if now > before + 20 { Ok(()) } else { Err(format!("{before}, then {now}")) }
            });
            assert_eq!(agent.events_of("drift").len(), 0);
            kill(agent);
            agent = again(world, &conf);
        }
        let churned = storm.end();
        assert_eq!(churned.faults, Vec::<String>::new());
        agent.await_live(A, churned.held, churned.held);
        let zone = agent.zone(A);
        assert_eq!((zone.admitted_total, zone.refused["abuse_cap"]), (churned.admitted, churned.refused));
        assert!(zone.websockets_peak <= CAP);
        drop(storm);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}
