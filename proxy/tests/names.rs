//! Origins by name: what the DNS says holds as long as it says, and no longer.

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use support::{
    PATIENCE, Setup,
    dns::{Dns, Record},
    free_port,
    raw::{Raw, status},
};
use tokio::{net::TcpListener, time::Instant};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// Servers on one port of two addresses, each of which says which of them it is.
async fn two() -> ([Ipv4Addr; 2], u16) {
    let first = free_port();
    let IpAddr::V4(ip) = first.ip() else { panic!("{first} is IPv4") };
    let [a, b, c, d] = ip.octets();
    let ips = [ip, Ipv4Addr::new(a, b + 1, c, d)];
    for ip in ips {
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), first.port())).await.expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut raw = Raw::new(stream);
                    while raw.try_head().await.is_some() {
                        let text = ip.to_string();
                        raw.send(format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                            text.len()
                        ))
                        .await;
                        raw.half_close().await;
                    }
                });
            }
        });
    }
    (ips, first.port())
}

async fn ask(setup: &Setup) -> (u16, String) {
    let (head, body) = Raw::connect(setup.http).await.ask(GET).await;
    (status(&head), body)
}

/// Asks until the answer is this one.
async fn comes_to(setup: &Setup, expected: (u16, String)) {
    let begun = Instant::now();
    loop {
        let answer = ask(setup).await;
        if answer == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "still {answer:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn by_name(dns: &Dns, port: u16) -> Setup {
    Setup::new()
        .setting(&format!("resolvers = [\"{}\"]", dns.address))
        .setting("connect_timeout = \"2s\"")
        .origins("a.test", &format!("origin = \"ws://origin.internal.example:{port}\""))
}

#[tokio::test]
async fn a_record_that_changes_is_followed_when_its_time_is_over_and_not_before() {
    let ([first, second], port) = two().await;
    let dns = Dns::start(Record::Addresses(vec![first], 3600)).await;
    let setup = by_name(&dns, port);
    let _proxy = setup.start();
    assert_eq!(ask(&setup).await, (200, first.to_string()));
    // It says an hour, so it is not asked again.
    dns.say(Record::Addresses(vec![second], 3600));
    for _ in 0..10 {
        assert_eq!(ask(&setup).await, (200, first.to_string()));
    }
    assert_eq!(dns.asked(), 1);

    let dns = Dns::start(Record::Addresses(vec![first], 1)).await;
    let setup = by_name(&dns, port);
    let _proxy = setup.start();
    assert_eq!(ask(&setup).await, (200, first.to_string()));
    dns.say(Record::Addresses(vec![second], 1));
    comes_to(&setup, (200, second.to_string())).await;
    dns.say(Record::Addresses(vec![first], 1));
    comes_to(&setup, (200, first.to_string())).await;
}

#[tokio::test]
async fn while_the_dns_fails_the_last_answer_is_used() {
    let ([first, second], port) = two().await;
    for failure in [Record::Failure, Record::Silence] {
        let dns = Dns::start(Record::Addresses(vec![first], 1)).await;
        let setup = by_name(&dns, port);
        let proxy = setup.start();
        assert_eq!(ask(&setup).await, (200, first.to_string()));
        dns.say(failure.clone());
        let before = dns.asked();
        let begun = Instant::now();
        while dns.asked() == before {
            assert_eq!(ask(&setup).await, (200, first.to_string()), "{failure:?}");
            assert!(begun.elapsed() < PATIENCE, "the DNS is not asked again");
        }
        assert_eq!(ask(&setup).await, (200, first.to_string()), "{failure:?}");
        dns.say(Record::Addresses(vec![second], 1));
        comes_to(&setup, (200, second.to_string())).await;
        assert_eq!(proxy.counters().origin_errors_of("name_failed"), 0, "{failure:?}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_a_kind_of_its_own_and_every_address_is_tried() {
    let ([first, _], port) = two().await;
    let dns = Dns::start(Record::NoSuchName).await;
    let setup = by_name(&dns, port);
    let proxy = setup.start();
    let (status, body) = ask(&setup).await;
    assert_eq!(status, 502);
    assert!(body.contains("origin_unreachable"), "{body}");
    let counters = proxy.counters();
    assert_eq!((counters.origin_errors_of("name_failed"), counters.origin_errors_of("unreachable")), (1, 0));

    // Nobody listens on the first address; that costs no request.
    let [.., c, d] = first.octets();
    let dns = Dns::start(Record::Addresses(vec![Ipv4Addr::new(127, 79, c, d), first], 3600)).await;
    let setup = by_name(&dns, port);
    let proxy = setup.start();
    for _ in 0..4 {
        assert_eq!(ask(&setup).await, (200, first.to_string()));
    }
    assert_eq!(proxy.counters().origin_errors_of("unreachable"), 0);
}
