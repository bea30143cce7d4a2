//! Trailers, both ways and over both versions of HTTP: sums go on, and what would pass for a header of weir's does not.

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use support::{
    Setup,
    http2::{Answer, Client},
    origin::origin,
    raw::{Raw, status},
    soon,
};
use tokio::sync::mpsc;

/// None of them may be a trailer.
const CLAIMS: [(&str, &str); 9] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("forwarded", "for=6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("x-request-id", "forged"),
    ("via", "1.1 weir"),
    ("cookie", "a=1"),
    ("origin", "https://other.test"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn names() -> String {
    CLAIMS.map(|(name, _)| name).join(", ")
}

fn lines() -> String {
    CLAIMS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// What comes behind the last chunk.
fn trailers(chunks: &str) -> Vec<String> {
    let (_, trailers) = chunks.split_once("\r\n0\r\n").expect("a last chunk");
    trailers.lines().filter(|line| !line.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// Takes chunks to their end, tells which trailers they have, and answers with trailers of its own, `own` last.
async fn taking(own: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<String>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let tell = tell.clone();
        async move {
            raw.head().await;
            let mut chunks = String::new();
            while !(chunks.contains("\r\n0\r\n") && chunks.ends_with("\r\n\r\n")) {
                let Some(some) = raw.some().await else { return };
                chunks += &String::from_utf8(some).expect("text");
            }
            tell.send(trailers(&chunks)).expect("taken");
            raw.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, connection, {}\r\n\r\n2\r\nok\r\n0\r\n\
                 connection: x\r\n{}{own}\r\n",
                names(),
                lines()
            ))
            .await;
            raw.rest().await.ok();
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn nobody_says_who_they_are_in_a_trailer() {
    let (address, mut told) = taking("x-sum: down\r\n").await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: te\r\nTrailer: x-sum, connection, {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\nconnection: x\r\n{}x-sum: up\r\n\r\n",
            names(),
            lines()
        ))
        .await;
    assert_eq!(soon(told.recv()).await.expect("trailers"), ["x-sum: up"]);
    assert_eq!(status(&client.head().await), 200);
    let mut chunks = String::new();
    while !chunks.ends_with("\r\n\r\n") {
        chunks += &String::from_utf8(client.some().await.expect("trailers")).expect("text");
    }
    assert_eq!(trailers(&chunks), ["x-sum: down"]);
}

/// Posts content with these trailers over HTTP/2; the answer's, once it is read.
async fn post(setup: &Setup, sent: HeaderMap) -> Option<HeaderMap> {
    let client = Client::tls(setup, "a.test").await;
    let announced = format!("x-sum, {}", names());
    let request = Request::post("https://a.test/").header("te", "trailers").header("trailer", announced);
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let request = request.body(()).expect("a request");
    let (response, mut send) = requests.send_request(request, false).expect("sent");
    send.send_data(Bytes::from_static(b"content"), false).expect("sent");
    send.send_trailers(sent).expect("sent");
    let (head, receive) = soon(response).await.expect("an answer").into_parts();
    let mut answer = Answer { head: http::Response::from_parts(head, ()), send, receive };
    assert_eq!((answer.head.status().as_u16(), answer.text().await.as_str()), (200, "ok"));
    soon(answer.receive.trailers()).await.expect("a sound end")
}

fn claims() -> HeaderMap {
    CLAIMS
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[tokio::test]
async fn nobody_says_who_they_are_in_a_trailer_over_http2() {
    let (address, mut told) = taking("x-sum: down\r\n").await;
    let setup = Setup::new().tls_zone("a.test", address);
    let _proxy = setup.start();
    let mut sent = claims();
    sent.insert("x-sum", HeaderValue::from_static("up"));
    let got = post(&setup, sent).await.expect("trailers");
    assert_eq!(soon(told.recv()).await.expect("trailers"), ["x-sum: up"]);
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got["x-sum"], "down");
}

#[tokio::test]
async fn trailers_of_which_nothing_may_go_on_are_an_end() {
    let (address, mut told) = taking("").await;
    let setup = Setup::new().tls_zone("a.test", address);
    let _proxy = setup.start();
    assert_eq!(post(&setup, claims()).await.filter(|got| !got.is_empty()), None);
    assert_eq!(soon(told.recv()).await.expect("an end"), [""; 0]);
}
