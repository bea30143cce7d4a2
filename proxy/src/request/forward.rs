//! A plain request: on to the origin through the pool of kept-alive connections, bodies streamed both ways.
//!
//! The response timeout runs from the request's last movement, so a long upload is not cut off while it goes on. When it passes,
//! whoever was waited for is named: the client (408) or the origin (504).

use std::{error::Error, pin::pin, sync::Arc};

use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::{
    request::{
        body::{Progress, ResponseBody, Upload},
        content::Content,
        headers,
        reason::Reason,
        service::{Routed, Stop},
        target,
    },
    upstream::{self, DialError, Member, Reuse},
};

pub(crate) async fn serve(
    routed: Routed<'_>,
    request: Request<Content>,
) -> Result<Response<ResponseBody>, Stop> {
    let (request, progress) = prepare(&routed, request);
    let mut response =
        exchange(&routed, request, &progress).await.map_err(|reason| routed.refused(reason))?;
    if headers::has_foreign_coding(response.headers()) {
        return Err(routed.refused(Reason::OriginFailed));
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(routed.refused(Reason::OriginBadUpgrade));
    }
    headers::prepare_response(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| ResponseBody::origin(body).to(progress)))
}

/// The request as the pool gets it: its URI is a path, its Host header what the client asked for or the zone says.
fn prepare(routed: &Routed<'_>, request: Request<Content>) -> (Request<Upload>, Arc<Progress>) {
    let (mut parts, body) = request.into_parts();
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    headers::prepare_request(&mut parts.headers, chunked);
    routed.introduce(&mut parts.headers, parts.version);
    parts.uri = Uri::from(target::origin_form(&parts.uri));
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let (body, progress) = Upload::new(body);
    (Request::from_parts(parts, body), progress)
}

async fn exchange(
    routed: &Routed<'_>,
    request: Request<Upload>,
    progress: &Arc<Progress>,
) -> Result<Response<Incoming>, Reason> {
    let timeouts = &routed.route.zone.timeouts;
    let limit = timeouts.response;
    let mut looked = progress.bytes();
    let mut look = pin!(sleep_until(Instant::now() + timeouts.stall));
    let mut response = pin!(send(routed, request, progress));
    let mut timer = pin!(sleep_until(progress.last() + limit));
    loop {
        tokio::select! {
            biased;
            answer = &mut response => return answer,
            () = &mut look, if !progress.is_complete() => {
                // A client that sends a byte now and then keeps `timer` from going off.
                let moved = progress.bytes() - std::mem::replace(&mut looked, progress.bytes());
                if progress.waits_for_client() && moved < timeouts.least_in_a_stall() {
                    return Err(Reason::RequestTimeout);
                }
                look.as_mut().reset(Instant::now() + timeouts.stall);
            }
            () = &mut timer => {
                let deadline = progress.last() + limit;
                if deadline <= Instant::now() {
                    let client = progress.waits_for_client();
                    return Err(if client { Reason::RequestTimeout } else { Reason::OriginResponseTimeout });
                }
                timer.as_mut().reset(deadline);
            }
        }
    }
}

/// Sends a request to the zone's origins in turn, until one takes the connection: as long as there is none, nothing has been
/// sent. All connects together have the connect timeout.
async fn send(
    routed: &Routed<'_>,
    mut request: Request<Upload>,
    progress: &Arc<Progress>,
) -> Result<Response<Incoming>, Reason> {
    let deadline = Instant::now() + routed.connect_timeout();
    let candidates = routed.route.origins.candidates(Instant::now());
    let head = (candidates.len() > 1).then(|| head_of(&request));
    let mut reason = Reason::OriginUnreachable;
    for (nth, origin) in candidates.iter().enumerate() {
        let error = match send_to(routed, origin, deadline, request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let zone = routed.route.zone.name.as_str();
        debug!(zone, origin = %origin.endpoint, error = &error as &dyn Error, "no answer of an origin");
        let dial = dial_of(&error);
        if let Some(dial) = dial {
            routed.shared.counters.undialled(dial);
        }
        reason = if progress.has_failed() {
            Reason::BadContent
        } else {
            if is_of_origin(&error, dial) {
                origin.failed(Instant::now());
            }
            dial.map_or(Reason::OriginFailed, DialError::reason)
        };
        let more = nth + 1 < candidates.len() && dial.is_some_and(DialError::is_for_another);
        match (more.then(|| progress.again()).flatten(), &head) {
            (Some(upload), Some(head)) => request = head_of(head).map(|_| upload),
            _ => break,
        }
    }
    Err(reason)
}

/// Sends a request to one origin, and sends it again on a connection of its own if the kept-alive one that it went out on turns
/// out to have been closed meanwhile: that is no fault of the origin's. Only for what may be sent twice (RFC 9110, 9.2.2), and
/// once.
async fn send_to(
    routed: &Routed<'_>,
    origin: &Member,
    deadline: Instant,
    request: Request<Upload>,
) -> Result<Response<Incoming>, legacy::Error> {
    let again =
        (request.method().is_idempotent() && request.body().is_end_stream()).then(|| head_of(&request));
    let pool = &routed.shared.pool;
    let answer = pool.request(&origin.endpoint, routed.call(deadline), request, Reuse::Allowed).await;
    let answer = match (answer, again) {
        (Err(error), Some(again)) if was_stale(&error) => {
            debug!(zone = %routed.route.zone.name, %error, "a kept-alive connection was closed; trying again");
            let deadline = Instant::now() + routed.connect_timeout();
            pool.request(&origin.endpoint, routed.call(deadline), again, Reuse::Never).await
        }
        (answer, _) => answer,
    };
    if let Ok(response) = &answer {
        upstream::mark_answered(response.extensions());
        origin.succeeded();
    }
    answer
}

/// The request once more, without its content.
fn head_of(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The connection had answered a request before, and broke without answering this one.
fn was_stale(error: &legacy::Error) -> bool {
    let broke = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(|error| !error.is_parse() && !error.is_user());
    broke && error.connect_info().is_some_and(upstream::has_answered)
}

/// The origin's own doing: no connection, or one that ended without an answer and had not been idle before.
fn is_of_origin(error: &legacy::Error, dial: Option<&DialError>) -> bool {
    match dial {
        Some(dial) => !dial.is_of_host(),
        None => !was_stale(error),
    }
}

/// Why there was no connection, if that is what failed.
fn dial_of(error: &legacy::Error) -> Option<&DialError> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return Some(dial);
        }
        source = error.source();
    }
    None
}
