//! An upgrade to WebSocket: admitted, offered to the origin on a connection of its own, and switched if the origin says 101.
//!
//! The admission is held from before the connect until the tunnel is up; every other way out of here drops it, which takes it
//! back. Bytes that a client sends behind its upgrade request stay where they are: in hyper's buffer, where they become the
//! tunnel's first bytes or, if the origin declines, the client's next request; in the stream's window of HTTP/2, where they become
//! the tunnel's or nobody's. Never are they bytes for an origin that has not agreed.

use std::{future::poll_fn, pin::pin, sync::PoisonError, task::Poll};

use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, Connection},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{
    accounting::books::Admission,
    downstream::connection::Switched,
    request::{
        body::ResponseBody,
        content::Content,
        handshake::{Handshake, Offer},
        headers,
        reason::Reason,
        service::{Dialled, Routed, Stop},
        target,
    },
    upstream::{MAX_HEAD, Stream, Unconnected},
};

type OriginConnection = Connection<TokioIo<Stream>, Empty<Bytes>>;

pub(crate) async fn serve(
    routed: Routed<'_>,
    request: Request<Content>,
    handshake: Handshake,
) -> Result<Response<ResponseBody>, Stop> {
    routed.shared.counters.upgrades.add(1);
    if !request.body().is_end_stream() {
        return Err(routed.refused(Reason::UpgradeWithContent));
    }
    let route = routed.route;
    // hyper does not see a client leave while bytes of its lie unread behind the request.
    let Asked { mut response, connection, admission, offer } = tokio::select! {
        biased;
        asked = ask(&routed, request, handshake) => asked?,
        () = routed.client.peer.left() => return Err(Stop::Gone),
    };

    if headers::has_foreign_coding(response.headers()) {
        return Err(routed.refused(Reason::OriginFailed));
    }
    if offer.is_declined(response.status()) {
        drop(admission);
        // Ends with the response's body, at the latest when the client's connection drops it.
        tokio::spawn(connection.finish());
        headers::prepare_response(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        return Ok(response.map(ResponseBody::origin));
    }
    if !offer.is_taken(&response) {
        return Err(routed.refused(Reason::OriginBadUpgrade));
    }
    let (upstream, from_upstream) = connection.into_stream().await.map_err(|error| {
        debug!(zone = %route.zone.name, %error, "the origin broke off behind its 101");
        routed.refused(Reason::OriginFailed)
    })?;
    let switched = Switched { upstream, from_upstream, zone: route.zone.clone(), admission, visit: None };
    *routed.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(switched);

    let (mut parts, _) = response.into_parts();
    offer.answer(&mut parts);
    Ok(Response::from_parts(parts, ResponseBody::full(Bytes::new())))
}

/// What has come of a question to an origin. The admission ends before the connection does.
struct Asked {
    admission: Admission,
    response: Response<Incoming>,
    connection: Answered,
    offer: Offer,
}

/// Admits the WebSocket, dials the origin and waits for its answer, within the time limits.
async fn ask(routed: &Routed<'_>, request: Request<Content>, handshake: Handshake) -> Result<Asked, Stop> {
    let (route, rule) = (routed.route, routed.snapshot.settings.accounting);
    let books = &routed.client.books;
    let turned = |turned| Stop::of(turned, &route.zone);
    let own = match handshake {
        Handshake::Upgrade => Some(books.admit(route.key, rule).map_err(turned)?),
        Handshake::ExtendedConnect => None,
    };
    // One of them counts: the client's socket, or the one to the origin.
    let dialled = routed.dial(|socket| match own {
        Some(_) => Ok(None),
        None => books.admit_upstream(socket, route.key, rule).map(Some),
    });
    let (Dialled { stream, origin }, upstreams) = dialled.await.map_err(|error| match error {
        Unconnected::OnSocket(turned_away) => turned(turned_away),
        Unconnected::Dial(error) => routed.refused(error.reason()),
    })?;
    let Some(admission) = own.or(upstreams) else {
        return Err(routed.refused(Reason::AccountingUnavailable));
    };

    let (request, offer) = prepare(routed, request, handshake)?;
    // The admission is behind the connection here, and so goes before it: a socket whose origin has to let it be closed would
    // count until then.
    let mut answering = Box::pin(send(stream, request));
    let admission = admission;
    let answered = timeout(route.zone.timeouts.response, &mut answering).await;
    let answered = answered.map_err(|_| routed.refused(Reason::OriginResponseTimeout))?;
    let (response, connection) = answered.map_err(|error| {
        debug!(zone = %route.zone.name, origin = %origin.endpoint, %error, "an origin did not answer an upgrade");
        origin.failed(Instant::now());
        routed.refused(Reason::OriginFailed)
    })?;
    origin.succeeded();
    Ok(Asked { admission, response, connection, offer })
}

/// The request as the origin gets it, and what of an answer makes it a WebSocket.
fn prepare(
    routed: &Routed<'_>,
    request: Request<Content>,
    handshake: Handshake,
) -> Result<(Request<Empty<Bytes>>, Offer), Stop> {
    let (mut parts, _) = request.into_parts();
    let version = parts.version;
    let offer = handshake.offer(&mut parts).map_err(|reason| routed.refused(reason))?;
    routed.introduce(&mut parts.headers, version);
    parts.uri = Uri::from(target::origin_form(&parts.uri));
    parts.extensions.clear();
    Ok((Request::from_parts(parts, Empty::new()), offer))
}

/// A connection to an origin on which an answer has come.
struct Answered {
    connection: OriginConnection,
    /// hyper is done with it and must not be polled again.
    done: bool,
}

/// Sends the request and waits for the head of the answer, all within the caller's task.
async fn send(
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
