//! A browser through weir: its own choice of protocol, its own WebSocket, and the kernel's count of it.
#![forbid(unsafe_code)]

use serde_json::json;
use weir_tests::{Conf, HTTP, HTTPS, ORIGIN, SOON, World, ZoneConf, browser, eventually, tls, world};

const ZONE: &str = "chat.test";
const PAGE: &str = include_str!("../web/conversation.html");
/// WebSockets that the page opens.
const SOCKETS: u64 = 3;

fn conf(world: &World) -> Conf {
    tls::certify(world, ZONE);
    let zone = ZoneConf::new(ZONE, "p").tls(&format!("{ZONE}.pem"), &format!("{ZONE}.key"));
    world.conf().https(&[HTTPS]).plan("p", 100, 1000).with_zone(zone)
}

/// Lets the browser have its conversation; `page` is the protocol by which it says it got the page, `via` how its upgrade
/// requests came to weir.
fn converse(world: &World, conf: &Conf, url: &str, page: &str, via: &str) {
    let site = browser::site(world, ORIGIN, PAGE);
    let agent = world.agent(conf);
    let _proxy = world.proxy(conf, HTTP);
    let live = || agent.live(ZONE).1;

    let _browser = browser::visit(world, url);
    let opened = site.report("/opened");
    assert_eq!(opened.content, json!({ "page": page, "sockets": SOCKETS }));
    assert_eq!(live(), SOCKETS, "the books while the page has its WebSockets open");
    let vias = site.vias();
    assert!(
        vias.len() == SOCKETS as usize && vias.iter().all(|seen| seen.starts_with(via)),
        "the upgrades came as {vias:?}"
    );
    opened.answer();

    let ended = site.report("/ended");
    let each = json!({ "protocol": "chat", "code": 3000, "reason": "registered", "wasClean": true });
    assert_eq!(ended.content["ended"], json!([each, each, each]));
    ended.answer();
    eventually("the books of a page that closed its WebSockets", SOON, || match live() {
        0 => Ok(()),
        live => Err(format!("{live} live")),
    });
}

#[test]
fn chromium_converses_over_ws() {
    world(|world| {
        converse(world, &conf(world), &format!("http://{ZONE}:{}/", HTTP.port()), "http/1.1", "1.1 weir-")
    });
}

#[test]
fn chromium_converses_over_wss_and_http_1() {
    world(|world| {
        let conf = conf(world).proxy("http2 = false");
        converse(world, &conf, &format!("https://{ZONE}:{}/", HTTPS.port()), "http/1.1", "1.1 weir-");
    });
}

#[test]
fn chromium_converses_over_http_2() {
    world(|world| converse(world, &conf(world), &format!("https://{ZONE}:{}/", HTTPS.port()), "h2", "2"));
}
