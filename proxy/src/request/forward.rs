//! A plain request: on to the origin through the pool of kept-alive connections, bodies streamed both ways.
//!
//! The response timeout runs from the request's last movement, so a long upload is not cut off while it goes on. When it passes,
//! whoever was waited for is named: the client (408) or the origin (504).

use std::{error::Error, pin::pin, sync::Arc};

use http::{Request, Response, StatusCode, Uri, Version, uri::Scheme};
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
    upstream::{self, DialError},
};

pub(crate) async fn serve(
    routed: Routed<'_>,
    request: Request<Content>,
) -> Result<Response<ResponseBody>, Stop> {
    if headers::has_foreign_coding(request.headers()) {
        return Err(routed.refused(Reason::CodingNotSupported));
    }
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
    Ok(response.map(ResponseBody::origin))
}

/// The request as the pool gets it: its URI names the origin, its Host header what the client asked for.
fn prepare(routed: &Routed<'_>, request: Request<Content>) -> (Request<Upload>, Arc<Progress>) {
    let (mut parts, body) = request.into_parts();
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    headers::prepare_request(&mut parts.headers, chunked);
    routed.introduce(&mut parts.headers, parts.version);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(routed.route.origin.authority.clone());
    uri.path_and_query = Some(target::origin_form(&parts.uri));
    // A scheme, an authority and a path always make a URI.
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let (body, progress) = Upload::new(body);
    (Request::from_parts(parts, body), progress)
}

async fn exchange(
    routed: &Routed<'_>,
    request: Request<Upload>,
    progress: &Progress,
) -> Result<Response<Incoming>, Reason> {
    let limit = routed.route.zone.timeouts.response;
    let mut response = pin!(send(routed, request));
    let mut timer = pin!(sleep_until(progress.last() + limit));
    loop {
        tokio::select! {
            biased;
            answer = &mut response => return answer.map_err(|error| {
                debug!(zone = %routed.route.zone.name, error = &error as &dyn Error, "no answer of the origin");
                if progress.has_failed() { Reason::BadContent } else { reason_of(&error) }
            }),
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

/// Sends a request, and sends it again on a connection of its own if the kept-alive one that it went out on turns out to have
/// been closed meanwhile: that is no fault of the origin's. Only for what may be sent twice (RFC 9110, 9.2.2), and once.
async fn send(routed: &Routed<'_>, request: Request<Upload>) -> Result<Response<Incoming>, legacy::Error> {
    let again =
        (request.method().is_idempotent() && request.body().is_end_stream()).then(|| head_of(&request));
    let answer = routed.shared.pool.request(request).await;
    match (answer, again) {
        (Err(error), Some(again)) if was_stale(&error) => {
            debug!(zone = %routed.route.zone.name, %error, "a kept-alive connection was closed; trying again");
            routed.shared.fresh.request(again).await
        }
        (Ok(response), _) => {
            upstream::mark_answered(response.extensions());
            Ok(response)
        }
        (answer, _) => answer,
    }
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

fn reason_of(error: &legacy::Error) -> Reason {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.reason();
        }
        source = error.source();
    }
    Reason::OriginFailed
}
