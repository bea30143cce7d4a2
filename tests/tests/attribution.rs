//! Whose a socket is: what the proxy tells the kernel, and when.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use nix::sys::signal::Signal;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use weir_tests::{
    HTTP, HTTPS, ORIGIN, SOON, World, ZoneConf, eventually,
    http::Answer,
    origin::{self, Manner},
    tls, websocket, world,
};

const A: &str = "a.test";
const B: &str = "b.test";

fn request(client: &mut TcpStream, host: &str) -> Answer {
    write!(client, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
    Answer::read(client).expect("an answer")
}

#[test]
fn a_connection_is_the_zones_that_it_asked_for_last() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Ok200);
        let conf = world.conf().plan("p", 5, 10).zone(A, "p").zone(B, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        agent.await_empty();
        let mut client = TcpStream::connect(HTTP).expect("a connection");
        eventually("a socket of nobody", SOON, || match agent.zones().unattributed_sockets {
            1 => Ok(()),
            other => Err(other.to_string()),
        });

        assert_eq!(request(&mut client, A).status, 200);
        assert_eq!((agent.live(A), agent.live(B)), ((1, 0), (0, 0)));
        assert_eq!(request(&mut client, "unknown.test").status, 421);
        assert_eq!(request(&mut client, B).status, 200);
        assert_eq!((agent.live(A), agent.live(B)), ((0, 0), (1, 0)));
        assert_eq!(agent.zones().unattributed_sockets, 0);
        drop(client);
        agent.await_empty();
        let moved = agent.zone(A);
        assert!(moved.closed.is_empty(), "it went on from there, and ended elsewhere: {:?}", moved.closed);
        assert_eq!(agent.zone(B).closed.values().sum::<u64>(), 1);
        agent.assert_never_drifted();
    });
}

#[test]
fn a_tls_client_is_its_zones_before_it_has_sent_a_request() {
    world(|world| {
        let authority = tls::certify(world, A);
        let zone = ZoneConf::new(A, "p").tls(&format!("{A}.pem"), &format!("{A}.key"));
        let conf = world.conf().https(&[HTTPS]).plan("p", 5, 10).with_zone(zone).zone(B, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTPS);
        agent.await_empty();
        let connect = |name: &'static str| {
            let connector = TlsConnector::from(authority.client());
            let name = ServerName::try_from(name).expect("a name");
            world.block_on(async move {
                let stream = tokio::net::TcpStream::connect(HTTPS).await.expect("a connection");
                connector.connect(name, stream).await
            })
        };
        let client = connect(A).expect("a TLS handshake");
        assert_eq!(agent.live(A), (1, 0));
        assert!(connect("unknown.test").is_err(), "there is no certificate for it");
        assert!(connect(B).is_err(), "nor for a zone without TLS");
        eventually("one socket", SOON, || match agent.sockets() {
            1 => Ok(()),
            other => Err(other.to_string()),
        });
        assert_eq!((agent.live(A), agent.live(B)), ((1, 0), (0, 0)));
        drop(client);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

fn start_proxy_in_vain(world: &World, conf: &str) -> String {
    let file = world.write("in-vain.toml", conf);
    let mut proxy = world.weir("in-vain", ["proxy", "--config", file.to_str().expect("a path")]);
    assert!(!proxy.wait(SOON).success(), "it serves, although nobody counts");
    proxy.log()
}

#[test]
fn a_proxy_serves_no_websocket_that_nobody_counts() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().plan("p", 5, 10).zone(A, "p");
        let log = start_proxy_in_vain(world, &conf.to_string());
        assert!(log.contains("weir agent"), "it says what is missing: {log}");

        let mut agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let mut client = websocket::connect(HTTP, A);
        agent.process.signal(Signal::SIGTERM);
        assert!(agent.process.wait(SOON).success());
        let mut unload = world.weir("unload", ["agent", "--unload", "--instance", world.instance()]);
        assert!(unload.wait(SOON).success());
        let answer = websocket::open(HTTP, A).expect("an answer").declined();
        assert_eq!(websocket::fault_of_refusal(&answer, A, "accounting_unavailable"), None);

        // What lives goes on, and with the next agent everything does.
        client.write_all(b"still there?").expect("sent");
        client.read_exact(&mut [0; 12]).expect("an echo");
        let agent = world.agent(&conf);
        let _more = websocket::connect(HTTP, A);
        assert_eq!(agent.live(A), (1, 1));
        assert!(agent.host().audit.untracked_sockets > 0, "the one from before is told");
    });
}

#[test]
fn where_counting_is_optional_websockets_pass_uncounted() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = world.conf().proxy("accounting = \"optional\"").plan("p", 1, 1).zone(A, "p");
        let proxy = world.proxy(&conf, HTTP);
        let _uncounted: Vec<_> = (0..3).map(|_| websocket::connect(HTTP, A)).collect();
        assert!(proxy.process.log().contains("not counted"), "{}", proxy.process.log());
        let agent = world.agent(&conf);
        assert_eq!(agent.live(A), (0, 0));
        let _counted = websocket::connect(HTTP, A);
        assert_eq!(
            websocket::open(HTTP, A).expect("an answer").declined().status,
            503,
            "and from here on the cap holds"
        );
        assert_eq!(agent.live(A).1, 1);
    });
}
