//! One request on its stream: put into the words of HTTP/1.1 for the rest of the proxy, and its answer sent.
//!
//! A stream that its client resets, or that goes with its connection, drops what is being done for it: the request at its
//! origin, and the admission of a WebSocket that is not open yet.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::Poll,
    time::SystemTime,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, TE},
};
use hyper::body::{Body, Frame};
use tracing::debug;

use super::{
    SEND_BUFFER,
    idle::Busy,
    pulse::{Pulse, Wait},
    stream::Stream,
};
use crate::{
    downstream::connection::{Switch, open_tunnel},
    request::{body::ResponseBody, content::Content, headers, service::Requests},
    server::Shared,
};

/// Fields of a request, its cookies counted as one: as many as hyper takes over HTTP/1.
const MAX_FIELDS: usize = 100;

/// Serves one stream to its end, or to the tunnel that it becomes.
pub(super) async fn run(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    requests: Arc<Requests>,
    shared: Arc<Shared>,
    busy: Busy,
) {
    let is_head = request.method() == Method::HEAD;
    if request.headers().get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        // As `h2` resets a malformed request; it takes any number of lengths that agree, but no origin should have to.
        shared.counters.malformed.add(1);
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    if is_waited_for(&request) {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        // Fails only for a stream that is gone.
        let _ = respond.send_informational(go_on);
    }
    let (request, receive) = translate(request);
    if request.headers().len() > MAX_FIELDS {
        shared.counters.malformed.add(1);
        let mut refused = Response::new(());
        *refused.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        // Fails only for a stream that is gone.
        let _ = respond.send_response(refused, true);
        return;
    }
    let switch = Switch::default();
    let mut answer = pin!(requests.answer(request, &switch));
    let answered = poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        answer.as_mut().poll(cx).map(Some)
    })
    .await;
    let response = match answered {
        Some(Ok(response)) => response,
        Some(Err(_)) => return respond.send_reset(Reason::CANCEL),
        None => return,
    };

    let switched = switch.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (head, body) = head_of(response);
    let ends = switched.is_none() && (is_head || body.is_end_stream());
    let send = match respond.send_response(head, ends) {
        Ok(send) => send,
        Err(error) => return debug!(%error, "a stream is gone before its answer"),
    };
    match (switched, receive) {
        (Some(switched), Some(receive)) => {
            open_tunnel(Stream::new(send, receive, busy), Bytes::new(), switched, &shared);
        }
        _ if ends => {}
        _ => {
            let pulse = Pulse::new(requests.client().limits.now());
            if let Err(cut) = send_body(send, body, pulse).await {
                debug!(?cut, "an answer was cut off");
                if matches!(cut, Cut::Stalled) {
                    shared.counters.timed_out.add(1);
                }
            }
        }
    }
}

/// The client waits for a 100 before it sends its content. What comes on a WebSocket's stream is none.
fn is_waited_for(request: &Request<RecvStream>) -> bool {
    request.method() != Method::CONNECT
        && !request.body().is_end_stream()
        && request
            .headers()
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The request in the form that one of HTTP/1.1 with an absolute target has. Of a CONNECT the stream stays here: what comes on
/// it is no content.
fn translate(request: Request<RecvStream>) -> (Request<Content>, Option<RecvStream>) {
    let (mut parts, stream) = request.into_parts();
    join_cookies(&mut parts.headers);
    if let (false, Some(authority)) = (parts.headers.contains_key(HOST), parts.uri.authority())
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    if parts.method == Method::CONNECT {
        return (Request::from_parts(parts, Content::None), Some(stream));
    }
    let length = parts.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    (Request::from_parts(parts, Content::Http2 { stream, length }), None)
}

/// A client may send each cookie in a field of its own; HTTP/1.1 has one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    // Values that were fields make one, and a separator does not change that.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The answer's head as HTTP/2 has it.
fn head_of(response: Response<ResponseBody>) -> (Response<()>, ResponseBody) {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    // Means nothing in an answer, and `h2` takes no answer with it.
    parts.headers.remove(TE);
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    if !parts.headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        parts.headers.insert(DATE, date);
    }
    (Response::from_parts(parts, ()), body)
}

/// Why an answer has no end.
#[derive(Debug)]
enum Cut {
    /// The client has reset the stream, or lost the connection.
    Gone,
    /// Nothing moved although something was due.
    Stalled,
    /// The origin broke off.
    Origin(#[expect(dead_code, reason = "shown by Debug")] hyper::Error),
}

/// Sends the content, no faster than the client takes it.
async fn send_body(mut send: SendStream<Bytes>, mut body: ResponseBody, mut pulse: Pulse) -> Result<(), Cut> {
    let sent = send_frames(&mut send, &mut body, &mut pulse).await;
    match sent {
        // Half an answer must not be taken for one.
        Err(Cut::Stalled) => send.send_reset(Reason::CANCEL),
        Err(Cut::Origin(_)) => send.send_reset(Reason::INTERNAL_ERROR),
        Err(Cut::Gone) | Ok(()) => {}
    }
    sent
}

async fn send_frames(
    send: &mut SendStream<Bytes>,
    body: &mut ResponseBody,
    pulse: &mut Pulse,
) -> Result<(), Cut> {
    let gone = |_: h2::Error| Cut::Gone;
    loop {
        let Some(frame) = next_frame(send, body, pulse).await? else {
            return send.send_data(Bytes::new(), true).map_err(gone);
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return send.send_trailers(trailers).map_err(gone),
                Err(_) => continue,
            },
        };
        while !data.is_empty() {
            let room = room(send, body, data.len(), pulse).await?;
            let part = data.split_to(room.min(data.len()));
            pulse.sent += part.len() as u64;
            let ends = data.is_empty() && body.is_end_stream();
            send.send_data(part, ends).map_err(gone)?;
            if ends {
                return Ok(());
            }
        }
        // What is left of the connection's window is for the other streams.
        send.reserve_capacity(0);
    }
}

async fn next_frame(
    send: &mut SendStream<Bytes>,
    body: &mut ResponseBody,
    pulse: &mut Pulse,
) -> Result<Option<Frame<Bytes>>, Cut> {
    poll_fn(|cx| {
        if send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Gone));
        }
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame.transpose().map_err(Cut::Origin));
        }
        pulse.poll(Wait::ForOrigin, body.uploaded(), cx).map(|()| Err(Cut::Stalled))
    })
    .await
}

/// Waits until some of `wanted` bytes may be sent.
async fn room(
    send: &mut SendStream<Bytes>,
    body: &ResponseBody,
    wanted: usize,
    pulse: &mut Pulse,
) -> Result<usize, Cut> {
    send.reserve_capacity(wanted.min(SEND_BUFFER));
    poll_fn(|cx| {
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Cut::Gone)),
            Poll::Pending => pulse.poll(Wait::ForClient, body.uploaded(), cx).map(|()| Err(Cut::Stalled)),
        }
    })
    .await
}
