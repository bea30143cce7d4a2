//! Answers that weir gives itself, as `application/problem+json` (RFC 9457): type, title, status and detail, and as members of
//! its own the reason's label, the request's id and, once they are known, the zone, the rule of the firewall, and the case of a limit.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION},
};
use serde::Serialize;
use weir_config::Zone;

use crate::{
    firewall::Block,
    request::{body::ResponseBody, limit, reason::Reason},
};

/// A refused request: the reason, and the zone if it is known.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub reason: Reason,
    pub zone: Option<Arc<Zone>>,
    /// The rule of the firewall that refuses it.
    pub block: Option<Box<Block>>,
    /// The case whose limit refuses it.
    pub case: Option<Box<str>>,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<&'a str>,
    request_id: &'a str,
}

impl Refused {
    pub fn new(reason: Reason) -> Self {
        Self { reason, zone: None, block: None, case: None }
    }

    pub fn of(reason: Reason, zone: &Arc<Zone>) -> Self {
        let case = (reason == Reason::Limit).then(|| limit::case_of(zone.name.as_str())).flatten();
        Self { reason, zone: Some(zone.clone()), block: None, case: case.map(Into::into) }
    }

    pub fn blocked(block: Block, zone: &Arc<Zone>) -> Self {
        Self { reason: block.reason, zone: Some(zone.clone()), block: Some(Box::new(block)), case: None }
    }

    /// The answer; `retry_after` is sent in whole seconds where the reason passes.
    pub fn response(&self, retry_after: Duration, request_id: &str) -> Response<ResponseBody> {
        let reason = self.reason;
        let block = self.block.as_deref();
        let answer = block.and_then(|block| block.answer.as_ref());
        let status = answer.map_or(reason.status(), |answer| answer.status);
        let problem = Problem {
            r#type: format!("urn:weir:problem:{}", reason.label()),
            title: reason.title(),
            status: status.as_u16(),
            detail: reason.detail(),
            reason: reason.label(),
            zone: self.zone.as_ref().map(|zone| zone.name.as_str()),
            rule: block.map(|block| block.rule.as_str()),
            case: self.case.as_deref(),
            request_id,
        };
        let (body, kind) = match answer.and_then(|answer| answer.body.as_ref()) {
            Some(text) => (text.as_bytes().to_vec(), "text/plain; charset=utf-8"),
            // Strings and a number: serialising them cannot fail.
            None => (serde_json::to_vec(&problem).unwrap_or_default(), "application/problem+json"),
        };
        let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(exceeded) = block.and_then(|block| block.exceeded.as_ref()) {
            exceeded.tell(headers);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if reason.is_passing() {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        if reason == Reason::WebsocketVersion {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if reason.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use weir_common::reason::Refusal as KernelRefusal;

    use super::*;
    use crate::request::reason::Reason;

    #[test]
    fn a_cap_answers_503_and_when_to_come_back() {
        for refusal in KernelRefusal::ALL.into_iter().filter(|refusal| refusal.is_admission()) {
            let reason = Reason::of_kernel(refusal);
            assert_eq!(reason.label(), refusal.label());
            let response = Refused::new(reason).response(Duration::from_secs(30), "7");
            if refusal == KernelRefusal::ZoneBlocked {
                assert_eq!(response.status(), http::StatusCode::FORBIDDEN);
                assert!(!response.headers().contains_key(RETRY_AFTER));
            } else {
                assert_eq!(response.status(), http::StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(response.headers()[RETRY_AFTER], "30");
            }
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        }
    }
}
