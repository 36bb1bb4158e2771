//! The seam between the upstream face and whoever decides about models.
//!
//! The gateway asks [`UpstreamRouter::handling`] for each call to a model that is not the local one. It streams through, as asked or to
//! a model by another name; or else the body is read whole, [`UpstreamRouter::begin`] makes a [`Route`], and the gateway asks the
//! route's models one after the other until one answers or the route gives up; never after the first byte of a reply went
//! to the client.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;

use crate::router::{AnsweredBy, Source, Tier};

/// A future that can be stored.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides about calls to models other than the local one.
pub trait UpstreamRouter: Send + Sync {
    /// What is to be done with a call of `method` (such as `streamGenerateContent`) of `model`; `length` is the body's in
    /// bytes, where the client says it.
    fn handling(&self, model: &str, method: &str, length: Option<u64>) -> Handling;

    /// Decides which model answers `call`.
    fn begin<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Box<dyn Route>>;
}

/// What is to be done with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It streams through.
    AsAsked,
    /// It streams through to this model, which the name asked for stands for.
    Renamed(String),
    /// Its model is to be decided upon, or it may be repeated elsewhere on failure.
    Routed,
}

/// One call, as the client made it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The model asked for.
    pub model: &'a str,
    /// The method asked for.
    pub method: &'a str,
    /// The request's header fields, keys included: not to be logged or stored.
    pub headers: &'a HeaderMap,
    /// The body, JSON if the client did well.
    pub body: &'a Bytes,
}

/// The way of one call along a chain of models.
pub trait Route: Send {
    /// The model to ask now, and why.
    fn choice(&self) -> &Choice;

    /// Hears that the model of [`Route::choice`] gave `failure`; may wait before it says what is next.
    fn failed<'a>(&'a mut self, failure: &'a Failed) -> BoxFuture<'a, Next>;

    /// Hears that the model of [`Route::choice`] began to answer.
    fn answered(&mut self) {}

    /// Why no other model was asked, once [`Next::GiveUp`] was said; goes into a header.
    fn end(&self) -> Option<&str> {
        None
    }
}

/// A model and why it was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The upstream's name of the model, without `models/`.
    pub model: String,
    /// Which strategy chose it.
    pub source: Source,
    /// The tier if one was chosen.
    pub tier: Option<Tier>,
    /// How long choosing took.
    pub latency: Duration,
    /// Who classified, if anybody did.
    pub answered_by: Option<AnsweredBy>,
    /// Why, in words.
    pub reasoning: Cow<'static, str>,
    /// The text that was classified, for the decision log of a user who wants it there.
    pub request: Option<String>,
}

/// How an attempt failed.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The upstream refused.
    Refused {
        /// A status of 400 or more.
        status: StatusCode,
        /// The reply's header fields, as they came.
        headers: HeaderMap,
        /// The reply's body: inflated if it came compressed, what came of it in time, at most 1 MiB.
        body: Bytes,
    },
    /// No connection: the upstream has not seen the request.
    Unreachable(String),
    /// The connection ended before a reply: the upstream may have acted on the request.
    Broken(String),
}

/// What happens after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The client gets the failure.
    GiveUp,
    /// [`Route::choice`] now names the model to ask, perhaps the same again.
    Ask,
}

/// Lets every call go to the model it asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsAsked;

impl UpstreamRouter for AsAsked {
    fn handling(&self, _model: &str, _method: &str, _length: Option<u64>) -> Handling {
        Handling::AsAsked
    }

    fn begin<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Box<dyn Route>> {
        Box::pin(async move {
            Box::new(Fixed(Choice {
                model: call.model.to_owned(),
                source: Source::Override,
                tier: None,
                latency: Duration::ZERO,
                answered_by: None,
                reasoning: Cow::Borrowed(""),
                request: None,
            })) as Box<dyn Route>
        })
    }
}

struct Fixed(Choice);

impl Route for Fixed {
    fn choice(&self) -> &Choice {
        &self.0
    }

    fn failed<'a>(&'a mut self, _failure: &'a Failed) -> BoxFuture<'a, Next> {
        Box::pin(async { Next::GiveUp })
    }
}
