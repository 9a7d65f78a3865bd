//! What is said of many tasks at once, and what that stands for: whoever judges knows single ones alone. The simulation
//! of the ordinary suite uses it too.

use poold::message::client::{Reply, ReplyBody};
use poold::message::worker::Report;
use poold::supervisor::{Action, Event};
use poold::task::Outcome;

/// The single events that an event stands for, in order.
pub fn of_event(event: &Event) -> Vec<Event> {
    match event.clone() {
        Event::SubmittedAll { client, request, spec, deadline, args } => {
            let each = (0..).zip(args.each()).map(|(place, args)| Event::Submitted {
                client,
                request: request.plus(place),
                spec: spec.clone(),
                deadline,
                args,
            });
            each.collect()
        }
        Event::AttemptsFinished { worker, attempt, results } => {
            let each = (0..).zip(results.each()).map(|(place, result)| Event::AttemptFinished {
                worker,
                attempt: attempt.plus(place),
                report: Report::Ok(result),
            });
            each.collect()
        }
        Event::AttemptsRecalled { worker, attempt, count } => (0..u64::from(count))
            .map(|place| Event::AttemptsRecalled { worker, attempt: attempt.plus(place), count: 1 })
            .collect(),
        Event::AttemptsPassedOver { worker, attempt, count } => (0..u64::from(count))
            .map(|place| Event::AttemptsPassedOver { worker, attempt: attempt.plus(place), count: 1 })
            .collect(),
        single => vec![single],
    }
}

/// The single actions that an action stands for, in order.
pub fn of_action(action: Action) -> Vec<Action> {
    match action {
        Action::SendAttempts { worker, attempt, task, function, args } => {
            let each = (0..).zip(args.each()).map(|(place, args)| Action::SendAttempt {
                worker,
                attempt: attempt.plus(place),
                task: task.plus(place),
                function: function.clone(),
                args,
            });
            each.collect()
        }
        Action::RecallAttempts { worker, attempt, count } => (0..u64::from(count))
            .map(|place| Action::RecallAttempts { worker, attempt: attempt.plus(place), count: 1 })
            .collect(),
        Action::Reply { client, reply: Reply { request: Some(request), body } } => {
            let bodies: Vec<ReplyBody> = match body {
                ReplyBody::AllAccepted { first, count } => (0..u64::from(count))
                    .map(|place| ReplyBody::Accepted { task: first.plus(place) })
                    .collect(),
                ReplyBody::AllDone { first, results } => {
                    let each = (0..).zip(results.each());
                    each.map(|(place, result)| ReplyBody::Done {
                        task: first.plus(place),
                        outcome: Outcome::Ok(result),
                    })
                    .collect()
                }
                single => vec![single],
            };
            let replies = (0..).zip(bodies).map(|(place, body)| Action::Reply {
                client,
                reply: Reply { request: Some(request.plus(place)), body },
            });
            replies.collect()
        }
        single => vec![single],
    }
}
