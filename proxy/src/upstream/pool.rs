//! The pool of kept-alive connections for plain requests.
//!
//! hyper's client knows connections by the authority of a request's URI, which is the endpoint's key here, and dials when it
//! has none. What the dial needs besides comes with the task that asks: the client calls its connector while it is polled
//! by the request, never from a task of its own.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, uri::Scheme};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::task_local;

use super::{Call, DialError, Endpoint, MAX_HEAD, Pooled, Unconnected};
use crate::request::body::Upload;

/// How long an idle connection to an origin is kept for the next plain request.
///
/// Shorter than servers commonly keep theirs (5 s), so that a request seldom meets a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one endpoint.
const IDLE_PER_ENDPOINT: usize = 64;

task_local! {
    static DIAL: (Arc<Endpoint>, Call);
}

/// Connections for plain requests: kept ones, and new ones that nobody else gets.
pub(crate) struct Pool {
    kept: Client<Connector, Upload>,
    fresh: Client<Connector, Upload>,
}

/// Whether a request may go out on a connection that has served others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    Never,
}

impl Pool {
    pub fn new() -> Self {
        Self { kept: client(IDLE_PER_ENDPOINT), fresh: client(0) }
    }

    /// Sends a request to an endpoint. Its URI is a path; it is made the endpoint's here.
    pub async fn request(
        &self,
        endpoint: &Arc<Endpoint>,
        call: Call,
        mut request: Request<Upload>,
        reuse: Reuse,
    ) -> Result<Response<Incoming>, Error> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(endpoint.key.clone());
        uri.path_and_query = request.uri().path_and_query().cloned();
        // A scheme, an authority and a path always make a URI.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let client = if reuse == Reuse::Never || endpoint.introduces() { &self.fresh } else { &self.kept };
        DIAL.scope((endpoint.clone(), call), client.request(request)).await
    }
}

fn client(idle_per_endpoint: usize) -> Client<Connector, Upload> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle_per_endpoint)
        .http1_max_buf_size(MAX_HEAD)
        .set_host(false)
        .build(Connector)
}

#[derive(Clone)]
struct Connector;

impl tower_service::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let asked = DIAL.try_with(Clone::clone);
        Box::pin(async move {
            let lost = |_| DialError::Connect(io::Error::other("nobody asks for the connection"));
            let (endpoint, call) = asked.map_err(lost)?;
            let dialled = endpoint.dial(&call, &|_| Ok::<_, Infallible>(())).await;
            let (stream, ()) = dialled.map_err(|Unconnected::Dial(error)| error)?;
            Ok(Pooled::new(stream))
        })
    }
}
