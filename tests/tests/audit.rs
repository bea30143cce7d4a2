//! What the audit finds wrong with the counts that belong to no zone, and sets right.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream};

use weir_tests::{Agent, HTTP, SOON, eventually, world};

const A: &str = "a.test";

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(HTTP).expect("a client");
    (client, listener.accept().expect("an accepted connection").0)
}

fn await_drifts(agent: &Agent, count: usize) {
    eventually("drift that is told", SOON, || match agent.events_of("drift").len() {
        drifts if drifts == count => Ok(()),
        drifts => Err(format!("{drifts} of {count}")),
    });
}

#[test]
fn a_wrong_count_of_unattributed_sockets_is_found_told_and_set_right() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let connection = pair(&listener);
        // Too high; too low, and with that below zero.
        for (n, off) in [(1, 4), (2, -3)] {
            world.pinned().falsify(0, off, 0);
            await_drifts(&agent, n);
            eventually("the right count", SOON, || match agent.zones().unattributed_sockets {
                1 => Ok(()),
                other => Err(other.to_string()),
            });
        }
        assert_eq!(agent.scrape().value("weir_audit_repairs_total"), 2.0);
        assert_eq!(agent.await_audit().audit.drift_sockets, 0, "and then all is well");
        drop(connection);
        agent.await_empty();
    });
}

#[test]
fn a_wrong_number_of_doomed_sockets_is_found_told_and_set_right() {
    world(|world| {
        let conf =
            world.conf().plan("p", 1, 1).zone(A, "p").http(&[]).listener(HTTP, &format!("zone = \"{A}\""));
        let mut agent = world.agent(&conf);
        let doomed = |agent: &Agent| agent.scrape().value("weir_doomed_sockets");
        // Nobody is doomed, and it says that some are, or fewer than none.
        for (n, off) in [(1, 3), (2, -2)] {
            world.falsify_doomed(off);
            await_drifts(&agent, n);
            eventually("nobody doomed", SOON, || match world.doomed() {
                0 => Ok(()),
                other => Err(other.to_string()),
            });
            assert_eq!(doomed(&agent), 0.0);
        }
        assert_eq!(agent.scrape().value("weir_audit_repairs_total"), 2.0);
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);

        // One lives above the cap that no agent has ended, and the number says that there is none.
        agent.process.kill();
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let (within, above) = (pair(&listener), pair(&listener));
        assert_eq!(world.doomed(), 1);
        world.falsify_doomed(-1);
        let agent = world.agent(&conf);
        eventually("the end of what is above the cap", SOON, || match agent.zones().unattributed_sockets {
            0 => Ok(()),
            other => Err(other.to_string()),
        });
        assert_eq!(agent.live(A), (1, 1), "what is within it lives");
        assert!(!agent.events_of("drift").is_empty());
        assert_eq!(world.doomed(), 0);
        drop((within, above));
        agent.await_empty();
    });
}
