//! What the daemon says, and to which call: the thread that reads from a connection.
//!
//! ```text
//!   one read of the socket ──> reply, reply, reply … ──> table: calls end ──┐
//!                                                                           v
//!                              those who wait are told, once all of it is taken in
//! ```
//!
//! So who waits for one call after the other is woken once for many of them.

use std::mem;
use std::sync::Arc;
use std::thread;

use super::call::{Audience, Call};
use super::callbacks::Callbacks;
use super::connection::Receiver;
use super::error::Error;
use super::exchange::{Awaited, Exchange, State};
use super::series::Series;
use super::until::lock;
use crate::id::RequestId;
use crate::message::client::ReplyBody;
use crate::task::Outcome;

impl Exchange {
    /// Takes in what the daemon says until the connection ends.
    pub(super) fn read(&self, mut receiver: Receiver) {
        let mut told = Vec::new();
        let error = loop {
            let heard = self.hear(&mut receiver, &mut told);
            told.drain(..).for_each(|told: Told| told.tell(&self.callbacks));
            match heard {
                Ok(()) => lock(&self.state).close_if_over(),
                Err(error) => break error,
            }
        };
        self.unlink(&error);
    }

    /// Waits for a reply, and takes in all that came with it. Puts whoever is to be `told` of something behind those
    /// there are.
    fn hear(&self, receiver: &mut Receiver, told: &mut Vec<Told>) -> Result<(), Error> {
        let mut next = Some(receiver.receive_whole()?);
        let mut state = lock(&self.state);
        while let Some((id, body)) = next {
            state.take_in(id, body, told)?;
            next = receiver.receive_next()?;
        }
        Ok(())
    }

    /// The connection has ended: so have all calls on it.
    fn unlink(&self, error: &Error) {
        let mut state = lock(&self.state);
        state.close();
        state.link = None;
        let is_expected = state.shut_down && state.is_over();
        let unanswered = state.awaited.after(0).count() + state.series_awaited();
        let awaited = mem::take(&mut state.awaited);
        let series: Vec<Arc<Series>> = state.series.iter().map(|(_, series)| Arc::clone(series)).collect();
        let lost: Vec<Arc<Series>> = series.into_iter().filter(|series| series.lose()).collect();
        state.series.retain(|_, series| !series.is_abandoned());
        drop(state);

        if !is_expected {
            log::warn!("the connection ended with {unanswered} requests unanswered: {error}");
        }
        lost.iter().for_each(|series| series.tell());
        for call in awaited.after(0).filter_map(|(_, awaited)| awaited.call()) {
            if call.lose() == Audience::Waits {
                call.tell(&self.callbacks);
            }
        }
        lock(&self.state).readers.remove(&thread::current().id());
        self.quiet.notify_all();
    }
}

/// Who is to be told of something.
#[derive(Debug)]
enum Told {
    /// Those who wait for a call that has ended.
    Call(Arc<Call>),
    /// The map that waits for what has become of its calls.
    Series(Arc<Series>),
}

impl Told {
    fn tell(self, callbacks: &Callbacks) {
        match self {
            Told::Call(call) => call.tell(callbacks),
            Told::Series(series) => series.tell(),
        }
    }
}

impl State {
    fn take_in(&mut self, id: RequestId, body: ReplyBody, told: &mut Vec<Told>) -> Result<(), Error> {
        if let Some((series, call)) = self.series_of(id) {
            let heard = series.hear(call, body)?;
            self.ask_for_ends(heard.unwanted);
            if heard.is_over {
                self.forget_if_over(&series);
            }
            if heard.is_wanted {
                told.push(Told::Series(series));
            }
            return Ok(());
        }
        match body {
            ReplyBody::AllAccepted { first, count } => (0..count.into()).try_for_each(|number| {
                let body = ReplyBody::Accepted { task: first.plus(number) };
                self.take_in_one(id.plus(number), body, told)
            }),
            ReplyBody::AllDone { first, results } => {
                (0..).zip(results.each()).try_for_each(|(number, result)| {
                    let body = ReplyBody::Done { task: first.plus(number), outcome: Outcome::Ok(result) };
                    self.take_in_one(id.plus(number), body, told)
                })
            }
            one => self.take_in_one(id, one, told),
        }
    }

    fn take_in_one(&mut self, id: RequestId, body: ReplyBody, told: &mut Vec<Told>) -> Result<(), Error> {
        match (self.awaited.get(id.0), body) {
            (Some(Awaited::Call(call)), ReplyBody::Accepted { task }) => {
                call.accepted(task);
                if call.is_done() {
                    let call = Arc::clone(call);
                    self.ask_to_cancel(&call);
                }
                return Ok(());
            }
            (Some(Awaited::Call(call)), ReplyBody::Started { .. }) => {
                call.started();
                return Ok(());
            }
            (Some(Awaited::End), ReplyBody::Started { .. }) => return Ok(()),
            (Some(Awaited::Call(call)), ReplyBody::Done { task, outcome }) => {
                if call.finish(task, outcome) == Audience::Waits {
                    told.push(Told::Call(Arc::clone(call)));
                }
            }
            (Some(Awaited::Call(call)), ReplyBody::Refused(refusal)) => {
                if call.refuse(refusal) == Audience::Waits {
                    told.push(Told::Call(Arc::clone(call)));
                }
            }
            // That the task is not there any more means that its end was on its way.
            (Some(Awaited::End), ReplyBody::Done { .. })
            | (Some(Awaited::CancelAnswer), ReplyBody::CancelAnswered { .. } | ReplyBody::Refused(_)) => {}
            (_, _) => return Err(Error::UnexpectedReply),
        }
        self.awaited.remove(id.0);
        Ok(())
    }
}
