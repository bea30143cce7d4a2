//! The pages behind the links, on an address of their own: GET shows, only POST changes.
//!
//! Everybody may come here, so nothing is looked up before a token's signature is checked, a form is read up to its bound, and
//! nobody learns anything from a bad link but that it is bad. The address serves nothing else: neither metrics nor acts.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State as Shared},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use time::OffsetDateTime;
use weir_notices::{
    answer::{self, Answered, LONGEST_FORM},
    letter::TemplateError,
    link::LinkError,
    page::{self, Page, Sorry, Standing},
};
use weir_reachout::{case::CaseState, contact::NoticeKind};

use super::post::{Post, in_words};
use crate::ledger::Ledger;

pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who puts a customer's answer into the case.
pub trait AnswerDesk: Send + Sync {
    /// False if the case takes no answers any more. The same answer twice changes nothing the second time. An error says why it
    /// could not be kept.
    fn take<'a>(&'a self, case: &'a str, answered: &'a Answered) -> Pending<'a, Result<bool, String>>;
}

/// What the pages need.
pub struct Links {
    pub ledger: Ledger,
    pub post: Box<dyn Fn() -> Arc<Post> + Send + Sync>,
    pub now: Box<dyn Fn() -> OffsetDateTime + Send + Sync>,
    pub desk: Box<dyn AnswerDesk>,
}

/// All of them: the token is what follows `/n/`, whatever path is in front of it.
pub fn pages(links: Arc<Links>) -> Router {
    Router::new().fallback(serve).with_state(links)
}

async fn serve(Shared(links): Shared<Arc<Links>>, request: Request) -> Response {
    let post = (links.post)();
    let (parts, body) = request.into_parts();
    let token = parts.uri.path().rsplit_once("/n/").map(|(_, token)| token.to_owned());
    let answered = match parts.method {
        Method::GET | Method::HEAD => None,
        Method::POST => match to_bytes(body, LONGEST_FORM).await {
            Ok(form) => Some(form),
            Err(_) => return respond(sorry(&post, Sorry::NoAnswer)),
        },
        _ => {
            let allow = [(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"))];
            return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
        }
    };
    respond(answer(&links, &post, token.as_deref().unwrap_or_default(), answered).await)
}

async fn answer(
    links: &Links,
    post: &Arc<Post>,
    token: &str,
    form: Option<Bytes>,
) -> Result<Page, TemplateError> {
    let now = (links.now)();
    let case = match post.verify(token, now) {
        Ok(link) => link.case,
        Err(LinkError::Unknown) => return sorry(post, Sorry::Unknown),
        Err(LinkError::Expired { until }) => return sorry(post, Sorry::Expired { until }),
    };
    let asked = case.clone();
    let zone = match links.ledger.run(move |store| store.zone_of_case(&asked)).await {
        Ok(Some(zone)) => zone,
        Ok(None) => return sorry(post, Sorry::Unknown),
        Err(error) => return not_now(post, &in_words(&error)),
    };
    let Some(form) = form else { return show(links, post, &zone, &case, now).await };
    let Ok(answered) = answer::read(&form) else { return sorry(post, Sorry::NoAnswer) };
    match links.desk.take(&case, &answered).await {
        Ok(false) => show(links, post, &zone, &case, now).await,
        Ok(true) => page::thanks(&post.templates, &post.sender_name, &case, answered.answer),
        Err(why) => not_now(post, &why),
    }
}

async fn show(
    links: &Links,
    post: &Arc<Post>,
    zone: &str,
    case: &str,
    now: OffsetDateTime,
) -> Result<Page, TemplateError> {
    let dossier = match post.dossier(&links.ledger, zone, now).await {
        Ok(dossier) => dossier,
        Err(error) => return not_now(post, &in_words(&error)),
    };
    let found = dossier.case(case).zip(post.about(&dossier, case, (NoticeKind::First, 1), now));
    let Some((case, about)) = found else { return sorry(post, Sorry::Unknown) };
    let standing = match case.state() {
        CaseState::Closed { .. } => Standing::Closed,
        CaseState::Limited(_) => Standing::Limited,
        _ => Standing::Open,
    };
    tokio::task::block_in_place(|| page::show(&post.templates, &about, &dossier.plot, standing))
}

fn sorry(post: &Post, why: Sorry) -> Result<Page, TemplateError> {
    page::sorry(&post.templates, &post.sender_name, why)
}

fn not_now(post: &Post, why: &str) -> Result<Page, TemplateError> {
    tracing::warn!(why, "a customer's link could not be served");
    sorry(post, Sorry::NotNow)
}

fn respond(page: Result<Page, TemplateError>) -> Response {
    let page = page.unwrap_or_else(|error| {
        tracing::error!("a page could not be written: {}", in_words(&error));
        Page { status: 500, html: "weir cannot show this page.".to_owned() }
    });
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, page.html).into_response();
    for (name, value) in page::headers() {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
