//! The agent's Unix socket: all of the admin address, and the acts.
//!
//! Only root may connect where only root is an operator; else everybody may, and whoever is none is answered 403 and let go within
//! [`STRANGERS`]. Bounded as the admin address is, and by user ([`Places`]): nobody can keep operators out by connecting.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State as Shared, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};
use weir_config::Operator;

use super::{
    ActError, ActRequest, Peer, act,
    places::{Place, Places, Seldom},
};
use crate::{
    admin::problem,
    reachout::{self, CaseError, CaseRequest},
    state::{State, lock},
};

/// Connections at once: root's, those of other operators, and of one of these.
const OF_ROOT: usize = 64;
const OF_OPERATORS: usize = 64;
const OF_ONE_OPERATOR: usize = 32;
/// Connections of users of whom it is not known yet that they are operators, or known that they are not; further ones are closed
/// unheard.
const AT_THE_DOOR: usize = 64;
const OF_ONE_AT_THE_DOOR: usize = 8;
/// Time in which a stranger has to have read that it is one.
const STRANGERS: Duration = Duration::from_secs(1);
const WARNINGS: Duration = Duration::from_secs(10);
/// Of an act, in bytes: a reason of 1000 characters is at most 12,000 bytes of JSON.
const LARGEST_ACT: usize = 16 * 1024;

/// The socket's file; it goes with this value.
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the socket, in place of one that a killed agent left. Somebody else's is left alone.
pub fn bind(path: &Path, operators: &[Operator]) -> io::Result<Bound> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if StdStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    let bound = Bound { listener, path: path.to_owned() };
    admit(path, operators)?;
    Ok(bound)
}

/// Lets those connect who may be operators.
pub fn admit(path: &Path, operators: &[Operator]) -> io::Result<()> {
    let only_root = operators.iter().all(|operator| *operator == Operator::User("root".to_owned()));
    fs::set_permissions(path, Permissions::from_mode(if only_root { 0o600 } else { 0o666 }))
}

/// Serves until the process ends.
pub async fn serve(bound: Bound, state: Arc<State>, pages: Router) -> io::Result<()> {
    let acts = Router::new()
        .route("/api/acts", post(take))
        .route("/api/cases", post(take_case))
        .layer(DefaultBodyLimit::max(LARGEST_ACT))
        .with_state(Arc::clone(&state));
    let router = pages.merge(acts).layer(middleware::from_fn(only_operators));
    let house = Arc::new(House {
        state,
        router,
        root: Places::new(OF_ROOT, OF_ROOT),
        operators: Places::new(OF_OPERATORS, OF_ONE_OPERATOR),
        door: Places::new(AT_THE_DOOR, OF_ONE_AT_THE_DOOR),
        strangers: Seldom::every(WARNINGS),
        crowds: Seldom::every(WARNINGS),
    });
    loop {
        let stream = match bound.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the agent's socket cannot accept a connection");
                tokio::time::sleep(weir_admin::ACCEPT_PAUSE).await;
                continue;
            }
        };
        // The kernel's word, before anything of ours is spent.
        let Ok(uid) = stream.peer_cred().map(|credentials| credentials.uid()) else { continue };
        let place = if uid == 0 { None } else { house.door.take(uid) };
        if uid != 0 && place.is_none() {
            if let Some(connections) = house.crowds.count(Instant::now()) {
                tracing::warn!(
                    uid,
                    connections,
                    "connections to the agent's socket closed: too many at once"
                );
            }
            continue;
        }
        let house = Arc::clone(&house);
        tokio::spawn(async move { house.receive(stream, uid, place).await });
    }
}

/// What connections share.
struct House {
    state: Arc<State>,
    router: Router,
    root: Arc<Places>,
    operators: Arc<Places>,
    door: Arc<Places>,
    strangers: Seldom,
    crowds: Seldom,
}

impl House {
    /// Serves one connection. `at_the_door` is kept until it is known whose it is, and there is a place for it.
    async fn receive(&self, stream: UnixStream, uid: u32, at_the_door: Option<Place>) {
        let operators = lock(&self.state.operators).clone();
        // It may look into the databases of users and groups.
        let asked = tokio::task::spawn_blocking(move || {
            let peer = Peer::of(&stream, &operators);
            (stream, peer)
        });
        let Ok((stream, Ok(peer))) = asked.await else { return };
        // To the peaks' memory of scrapers a local one, as on the admin address.
        let from = ConnectInfo(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let router = self.router.clone().layer(Extension(from)).layer(Extension(peer.clone()));
        if !peer.allowed {
            if let Some(connections) = self.strangers.count(Instant::now()) {
                tracing::warn!(uid, user = peer.user, connections, "somebody who is no operator connected");
            }
            // What it did not read by then it does not get.
            let _ = timeout(STRANGERS, weir_admin::serve_connection(stream, router)).await;
            return;
        }
        let _place = if uid == 0 { self.root.wait(uid).await } else { self.operators.wait(uid).await };
        drop(at_the_door);
        weir_admin::serve_connection(stream, router).await;
    }
}

async fn only_operators(Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    if peer.allowed {
        return next.run(request).await;
    }
    let detail = format!(
        "uid {} ({}) is no operator: act as root, or name the user (or @GROUP) in agent.operators",
        peer.uid, peer.user
    );
    let mut response = problem(StatusCode::FORBIDDEN, &detail);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// `POST /api/acts`. A caller that goes away does not end what it began: between record and effect nothing may stop.
async fn take(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<ActRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let task = tokio::spawn(async move { act(&state, &peer, request).await });
    match task.await {
        Ok(Ok(reply)) => (StatusCode::OK, Json(reply)).into_response(),
        Ok(Err(error)) => refuse(&error),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the act failed: {error}")),
    }
}

/// `POST /api/cases`, likewise.
async fn take_case(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: Result<Json<CaseRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let task = tokio::spawn(async move { reachout::act(&state, &peer, request).await });
    let error = match task.await {
        Ok(Ok(reply)) => return (StatusCode::OK, Json(reply)).into_response(),
        Ok(Err(error)) => error,
        Err(error) => {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the act failed: {error}"));
        }
    };
    let status = match error {
        CaseError::Unknown(_) => StatusCode::NOT_FOUND,
        CaseError::Reason | CaseError::Resolution(_) => StatusCode::UNPROCESSABLE_ENTITY,
        CaseError::Refused { .. } => StatusCode::CONFLICT,
        CaseError::Ledger(_) | CaseError::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &error.to_string())
}

fn refuse(error: &ActError) -> Response {
    let status = match error {
        ActError::Unclear(_) | ActError::NoChange { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        ActError::NoZone { .. } | ActError::NotInForce { .. } => StatusCode::NOT_FOUND,
        ActError::Ledger(_) | ActError::DenyFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ActError::CannotKill => StatusCode::NOT_IMPLEMENTED,
        ActError::Kernel(_) | ActError::Denial(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !detail.contains(&said) {
            detail = format!("{detail}: {said}");
        }
        cause = error.source();
    }
    problem(status, &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Vec<Operator> {
        vec![Operator::User("root".to_owned())]
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/weir/agent.sock");
        let first = bind(&path, &root()).unwrap();
        assert_eq!(bind(&path, &root()).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        // A killed agent removes nothing.
        let left = folder.path().join("left");
        fs::rename(&path, &left).unwrap();
        drop(first);
        fs::rename(&left, &path).unwrap();
        let second = bind(&path, &root()).unwrap();
        assert!(StdStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_root_can_connect_unless_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let _bound = bind(&path, &root()).unwrap();
        assert_eq!(mode(&path), 0o600);
        admit(&path, &[Operator::User("root".to_owned()), Operator::Group("ops".to_owned())]).unwrap();
        assert_eq!(mode(&path), 0o666);
    }

    #[tokio::test]
    async fn a_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        fs::write(&path, "theirs").unwrap();
        assert!(bind(&path, &root()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }
}
