//! Records which orders were carried out, and which clients of the lab they closed. From this record the
//! pages draw a line through the lanes for each order, and show for how long a thread is held by a client
//! that has closed.
//!
//! Both lists have a maximum length, and keep only the newest entries.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Maximum number of entries of each kind.
const MOST: usize = 64;

/// An order that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OrderShown {
    /// On the timeline's clock.
    pub at_us: u64,
    /// A few words for a label.
    pub text: String,
}

/// A client of the lab that an order has closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ClosedClient {
    /// On the timeline's clock.
    pub at_us: u64,
    /// The target of its request; together with the port it identifies the request.
    pub target: String,
    pub local_port: u16,
    /// Such as `tab 3`.
    #[serde(skip)]
    pub name: String,
}

/// The newest orders and closed clients.
#[derive(Debug, Default)]
pub(super) struct OrdersLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    orders: VecDeque<OrderShown>,
    closed: VecDeque<ClosedClient>,
}

impl OrdersLog {
    /// Adds an order.
    pub fn ordered(&self, at_us: u64, text: String) {
        push(&mut self.kept().orders, OrderShown { at_us, text });
    }

    /// Adds a client that was closed.
    pub fn closed(&self, client: ClosedClient) {
        push(&mut self.kept().closed, client);
    }

    /// The orders, oldest first.
    pub fn orders(&self) -> Vec<OrderShown> {
        self.kept().orders.iter().cloned().collect()
    }

    /// The closed clients, in the order in which they were closed.
    pub fn clients(&self) -> Vec<ClosedClient> {
        self.kept().closed.iter().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change is one insertion or removal, which is complete even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= MOST {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_orders_are_kept() {
        let log = OrdersLog::default();
        for at_us in 0..100 {
            log.ordered(at_us, "reaped".to_owned());
        }
        let orders = log.orders();
        assert_eq!(orders.len(), MOST);
        assert_eq!((orders[0].at_us, orders[MOST - 1].at_us), (36, 99));
    }
}
