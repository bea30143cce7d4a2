//! Answers that weir gives itself, as `application/problem+json` (RFC 9457): type, title, status and detail, and as members of
//! its own the reason's label and, once it is known, the zone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use weir_config::Zone;

use crate::request::{body::ResponseBody, reason::Reason};

/// A refused request: the reason, and the zone if it is known.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub reason: Reason,
    pub zone: Option<Arc<Zone>>,
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
}

impl Refused {
    pub fn new(reason: Reason) -> Self {
        Self { reason, zone: None }
    }

    pub fn of(reason: Reason, zone: &Arc<Zone>) -> Self {
        Self { reason, zone: Some(zone.clone()) }
    }

    /// The answer; `retry_after` is sent in whole seconds where the reason passes.
    pub fn response(&self, retry_after: Duration) -> Response<ResponseBody> {
        let reason = self.reason;
        let problem = Problem {
            r#type: format!("urn:weir:problem:{}", reason.label()),
            title: reason.title(),
            status: reason.status().as_u16(),
            detail: reason.detail(),
            reason: reason.label(),
            zone: self.zone.as_ref().map(|zone| zone.name.as_str()),
        };
        // Strings and a number: serialising them cannot fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
        *response.status_mut() = reason.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if reason.is_passing() {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
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
            let response = Refused::new(reason).response(Duration::from_secs(30));
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
