//! An upgrade to WebSocket: admitted, offered to the origin on a connection of its own, and switched if the origin says 101.
//!
//! The admission is held from before the dial until the tunnel is up; every other way out of here drops it, which takes it
//! back. Bytes that a client sends behind its upgrade request stay in hyper's buffer: they become the tunnel's first bytes, or,
//! if the origin declines, the client's next request - never bytes for the origin.

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::PoisonError, task::Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, Connection},
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::debug;

use crate::{
    downstream::connection::Switched,
    request::{
        body::ResponseBody,
        content::Content,
        headers,
        reason::Reason,
        service::{Routed, Stop},
        target,
    },
    upstream::{MAX_HEAD, Stream, Unconnected},
};

type OriginConnection = Connection<TokioIo<Stream>, Empty<Bytes>>;

pub(crate) async fn serve(
    routed: Routed<'_>,
    request: Request<Content>,
) -> Result<Response<ResponseBody>, Stop> {
    routed.shared.counters.upgrades.add(1);
    if !request.body().is_end_stream() {
        return Err(routed.refused(Reason::UpgradeWithContent));
    }
    let route = routed.route;
    let settings = &routed.snapshot.settings;
    let admission = routed.client.books.admit(route.key, settings.accounting);
    let admission = admission.map_err(|turned| Stop::of(turned, &route.zone))?;

    // hyper does not see a client leave while bytes of its lie unread behind the request.
    let (mut response, connection) = tokio::select! {
        biased;
        answered = ask(&routed, request) => answered?,
        () = routed.client.peer.left() => return Err(Stop::Gone),
    };

    if headers::has_foreign_coding(response.headers()) {
        return Err(routed.refused(Reason::OriginFailed));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        drop(admission);
        // Ends with the response's body, at the latest when the client's connection drops it.
        tokio::spawn(connection.finish());
        headers::prepare_response(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        return Ok(response.map(ResponseBody::origin));
    }
    if !headers::is_websocket_switch(&response) {
        return Err(routed.refused(Reason::OriginBadUpgrade));
    }
    let (upstream, from_upstream) = connection.into_stream().await.map_err(|error| {
        debug!(zone = %route.zone.name, %error, "the origin broke off behind its 101");
        routed.refused(Reason::OriginFailed)
    })?;
    let switched = Switched { upstream, from_upstream, zone: route.zone.clone(), admission };
    *routed.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(switched);

    headers::prepare_switch(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|_| ResponseBody::full(Bytes::new())))
}

/// Dials the origin and waits for its answer, within the time limits.
async fn ask(routed: &Routed<'_>, request: Request<Content>) -> Result<(Response<Incoming>, Answered), Stop> {
    let (route, timeouts) = (routed.route, &routed.route.zone.timeouts);
    let dialled = routed.dial(|_| Ok::<_, Infallible>(())).await;
    let (stream, ()) = dialled.map_err(|Unconnected::Dial(error)| {
        debug!(zone = %route.zone.name, %error, "no connection to the origin");
        routed.refused(error.reason())
    })?;
    let offered = timeout(timeouts.response, offer(stream, prepare(routed, request))).await;
    let offered = offered.map_err(|_| routed.refused(Reason::OriginResponseTimeout))?;
    offered.map_err(|error| {
        debug!(zone = %route.zone.name, %error, "the origin did not answer an upgrade");
        routed.refused(Reason::OriginFailed)
    })
}

/// The request as the origin gets it.
fn prepare(routed: &Routed<'_>, request: Request<Content>) -> Request<Empty<Bytes>> {
    let (mut parts, _) = request.into_parts();
    headers::prepare_upgrade(&mut parts.headers);
    routed.introduce(&mut parts.headers, parts.version);
    parts.uri = Uri::from(target::origin_form(&parts.uri));
    parts.extensions.clear();
    Request::from_parts(parts, Empty::new())
}

/// A connection to an origin on which an answer has come.
struct Answered {
    connection: OriginConnection,
    /// hyper is done with it and must not be polled again.
    done: bool,
}

/// Sends the request and waits for the head of the answer, all within the caller's task.
async fn offer(
    stream: Stream,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(Response<Incoming>, Answered)> {
    let (mut sender, mut connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let mut done = false;
    let mut answer = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        let mut broke = None;
        if !done && let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
            done = true;
            broke = result.err();
        }
        // An answer that came before the connection broke is an answer.
        match (answer.as_mut().poll(cx), broke) {
            (Poll::Pending | Poll::Ready(Err(_)), Some(error)) => Poll::Ready(Err(error)),
            (answered, _) => answered,
        }
    })
    .await?;
    Ok((response, Answered { connection, done }))
}

impl Answered {
    /// Runs the connection until the answer's body is through.
    async fn finish(self) {
        if !self.done {
            // The body carries the error to whoever reads it.
            let _ = self.connection.await;
        }
    }

    /// Behind a 101: the bare stream, and what the origin sent after the head.
    async fn into_stream(mut self) -> hyper::Result<(Stream, Bytes)> {
        if !self.done {
            poll_fn(|cx| self.connection.poll_without_shutdown(cx)).await?;
        }
        let parts = self.connection.into_parts();
        Ok((parts.io.into_inner(), parts.read_buf))
    }
}
