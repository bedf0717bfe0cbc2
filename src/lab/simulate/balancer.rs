//! The balancer. It chooses a server for each connection, among those that answer its check.

use super::scenario::Balance;

/// The servers as the balancer sees them.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    servers: Vec<Balanced>,
    /// The server to consider first, so that equally loaded servers take turns.
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Balanced {
    connections: u64,
    in_rotation: bool,
}

impl Balancer {
    pub fn new(balance: Balance, servers: u16) -> Balancer {
        let server = Balanced { connections: 0, in_rotation: true };
        Balancer { balance, servers: vec![server; servers.into()], next: 0 }
    }

    /// Chooses a server for a connection, and counts the connection. Returns `None` if no server is in rotation.
    pub fn choose(&mut self) -> Option<usize> {
        let count = self.servers.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count);
        let mut candidates = turns.filter(|server| self.servers[*server].in_rotation);
        let chosen = match self.balance {
            Balance::RoundRobin => candidates.next(),
            Balance::LeastConnections => candidates.min_by_key(|server| self.servers[*server].connections),
        }?;
        self.next = (chosen + 1) % count;
        self.servers[chosen].connections += 1;
        Some(chosen)
    }

    /// Counts the end of a connection to the server.
    pub fn closed(&mut self, server: usize) {
        self.servers[server].connections -= 1;
    }

    /// Counts the end of all connections to the server.
    pub fn all_closed(&mut self, server: usize) {
        self.servers[server].connections = 0;
    }

    /// Whether new connections go to the server.
    pub fn set_in_rotation(&mut self, server: usize, in_rotation: bool) {
        self.servers[server].in_rotation = in_rotation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_servers_take_turns_and_a_new_server_gets_all_connections_until_it_has_as_many() {
        let mut balancer = Balancer::new(Balance::LeastConnections, 3);
        balancer.set_in_rotation(2, false);
        let chosen: Vec<_> = (0..4).filter_map(|_| balancer.choose()).collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
        balancer.set_in_rotation(2, true);
        let chosen: Vec<_> = (0..4).filter_map(|_| balancer.choose()).collect();
        assert_eq!(chosen, [2, 2, 0, 1]);
        balancer.closed(1);
        assert_eq!(balancer.choose(), Some(2));
        (0..3).for_each(|server| balancer.set_in_rotation(server, false));
        assert_eq!(balancer.choose(), None);
    }

    #[test]
    fn round_robin_ignores_the_number_of_connections() {
        let mut balancer = Balancer::new(Balance::RoundRobin, 3);
        (0..5).for_each(|_| balancer.closed_after_all());
        assert_eq!(balancer.choose(), Some(2));
    }

    impl Balancer {
        fn closed_after_all(&mut self) {
            let server = self.choose().unwrap();
            self.closed(server);
        }
    }
}
