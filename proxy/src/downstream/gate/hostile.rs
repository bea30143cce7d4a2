//! The gate and hyper behind it, over any bytes that a client may send.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONNECTION};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Gate, Gated, NO_REQUEST, Part};
use crate::{
    downstream::{connection::http1::builder, pace::Pace},
    hostile::knife,
    request::headers,
};

/// A head that the gate let through.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    bytes: Vec<u8>,
    /// Its content, if the head says how long it is.
    length: Option<u64>,
}

/// What became of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    heads: Vec<Head>,
    bytes: Vec<u8>,
    bad_chunks: bool,
}

/// However the bytes come in, the same passes. Nothing passes that was not there, but the byte that is no request. And hyper, which
/// has the bytes behind the gate, sees requests where heads were judged and nowhere else, with the content that was followed: there
/// is no other way for a request to hide in another one. It never waits for what the gate keeps back for good either.
pub fn http1(data: &[u8]) {
    let (cut, stream) = knife(data);
    let whole = passed(stream, stream.len().max(1));
    let pieces = passed(stream, cut);
    assert_eq!(whole.heads, pieces.heads);
    assert_eq!(whole.bad_chunks, pieces.bad_chunks);
    if whole.bad_chunks {
        // What was right of a piece with bad chunks does not pass; of smaller pieces more does.
        assert!(pieces.bytes.starts_with(&whole.bytes));
    } else {
        assert_eq!(whole.bytes, pieces.bytes);
    }
    let as_it_came = pieces.bytes.strip_suffix(&[NO_REQUEST]).unwrap_or(&pieces.bytes);
    assert!(stream.starts_with(as_it_came));

    let seen = served(stream, cut);
    assert!(seen.len() <= whole.heads.len(), "hyper sees {seen:?}, judged were {:?}", whole.heads);
    for (request, head) in seen.iter().zip(&whole.heads) {
        let line = head.bytes.trim_ascii_start();
        assert!(line.starts_with(request.method.as_bytes()), "{request:?} is none of {head:?}");
        if let (Some(length), Some(received)) = (head.length, request.received) {
            assert_eq!(received, length, "{head:?}");
        }
    }
}

/// Takes the stream in pieces of `cut` bytes through a gate.
fn passed(stream: &[u8], cut: usize) -> Passed {
    let mut gate = Gate::new();
    let mut passed = Passed::default();
    for piece in stream.chunks(cut) {
        gate.take(piece);
        if !passed.take(&mut gate) {
            return passed;
        }
    }
    gate.end();
    passed.take(&mut gate);
    passed
}

impl Passed {
    /// Takes all that may pass now. False behind bad chunks and a head that may not pass.
    fn take(&mut self, gate: &mut Gate) -> bool {
        loop {
            let at_head = gate.part == Part::Head && gate.cleared == 0;
            let from = self.bytes.len();
            match gate.pass(usize::MAX, |bytes| self.bytes.extend_from_slice(bytes)) {
                Ok(0) => return true,
                // hyper ends the connection there (see `served`): what comes behind is nobody's.
                Ok(_) if at_head && self.bytes[from..] == [NO_REQUEST] => return false,
                Ok(_) if at_head => {
                    let length = match gate.part {
                        Part::Head => Some(0),
                        Part::Content(length) => Some(length),
                        Part::Chunks(_) | Part::Lost | Part::End => None,
                    };
                    self.heads.push(Head { bytes: self.bytes[from..].to_vec(), length });
                }
                Ok(_) => {}
                Err(_) => {
                    self.bad_chunks = true;
                    return false;
                }
            }
        }
    }
}

/// A request as hyper gives it to the service.
#[derive(Debug)]
struct Seen {
    method: String,
    /// Bytes of content, if all of it came.
    received: Option<u64>,
}

/// Has hyper serve the stream behind a gate, with the proxy's own settings.
fn served(stream: &[u8], cut: usize) -> Vec<Seen> {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let pace = Arc::new(Pace::default());
    let (log, hold) = (seen.clone(), pace.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (log, pace) = (log.clone(), hold.clone());
        if headers::is_websocket_request(&request) {
            pace.hold(true);
        }
        async move {
            let method = request.method().as_str().to_owned();
            // As the proxy does. That it closes behind such an answer as well is not needed here: the gate alone has to do.
            let refused = headers::has_foreign_coding(request.headers());
            let received = match refused {
                true => None,
                false => request.into_body().collect().await.ok().map(|all| all.to_bytes().len() as u64),
            };
            log.lock().expect("unpoisoned").push(Seen { method, received });
            pace.hold(false);
            let mut response = Response::new(Empty::<Bytes>::new());
            if received.is_none() && !refused {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let io = TokioIo::new(Gated::new(Wire { stream, cut }, pace.clone()));
    let mut connection = pin!(builder().serve_connection(io, service));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..stream.len() + 64 {
        if connection.as_mut().poll(&mut cx).is_ready() {
            return std::mem::take(&mut seen.lock().expect("unpoisoned"));
        }
    }
    panic!("the connection has no end");
}

/// A client that has sent everything, takes everything, and then closes.
struct Wire<'a> {
    stream: &'a [u8],
    cut: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.stream.split_at(self.stream.len().min(self.cut).min(buf.remaining()));
        buf.put_slice(now);
        self.stream = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
