//! A request from its head to the end of its answer: what is counted of it, and its line in the access log.

use std::{net::IpAddr, sync::Arc};

use http::{Request, StatusCode};

use crate::{
    observe::{
        access::visit::{Answer, Visit},
        counters::Counters,
        outcome::Class,
        request_id::RequestId,
    },
    request::{reason::Reason, service::Client},
    server::{Shared, routes::Route},
};

/// Dropped without an answer, its client has left.
pub(crate) struct Exchange {
    counters: Arc<Counters>,
    route: Option<Arc<Route>>,
    visit: Option<Box<Visit>>,
    answer: Option<Answer>,
}

impl Exchange {
    /// `address` is whom the client is taken for.
    pub fn begin<B>(
        shared: &Shared,
        client: &Client,
        address: IpAddr,
        request: &Request<B>,
        id: &RequestId,
    ) -> Self {
        shared.counters.requests.add(1);
        let visit = Visit::of(&shared.access_log, client, address, request, id);
        Self { counters: shared.counters.clone(), route: None, visit, answer: None }
    }

    /// The zone is known, and may be named to this client.
    pub fn is_of(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
        if let Some(visit) = &mut self.visit {
            visit.is_of(&route.zone);
        }
    }

    /// The head of the answer is there. `reason` says why weir gave it itself.
    pub fn answered(&mut self, status: StatusCode, reason: Option<Reason>) {
        self.count(Class::of(status));
        self.answer = Some(Answer { status: status.as_u16(), reason, sent_bytes: 0 });
    }

    /// So much of the answer's content goes to the client.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(answer) = &mut self.answer {
            answer.sent_bytes += bytes as u64;
        }
    }

    /// The request becomes a tunnel, whose the line in the log is from here on.
    pub fn switched(&mut self, status: StatusCode) -> Option<Box<Visit>> {
        self.count(Class::Switched);
        self.answer = Some(Answer { status: status.as_u16(), reason: None, sent_bytes: 0 });
        let mut visit = self.visit.take()?;
        visit.switches(status);
        Some(visit)
    }

    fn count(&self, class: Class) {
        match &self.route {
            Some(route) => route.requests.add(class),
            None => self.counters.requests_without_zone.add(class),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        match (&self.answer, &mut self.visit) {
            (Some(answer), Some(visit)) => visit.answered(answer),
            (Some(_), None) => {}
            // The visit says so itself.
            (None, _) => self.count(Class::Gone),
        }
    }
}
