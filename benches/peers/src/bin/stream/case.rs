//! What is measured: a program that receives or sends in parts, over what, and in which direction.

use std::fmt;

/// How the measured program receives and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A loop at the server's end that knows in advance what it receives.
    BareServer,
    /// The same at the client's end.
    BareClient,
    Handler,
    Events,
    Client,
    Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
    Deflate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The measured program receives the message, and replies with its checksum.
    In,
    /// The measured program sends the message.
    Out,
    /// The measured program sends back what arrives, at once.
    Echo,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) way: Way,
    pub(crate) transport: Transport,
    pub(crate) direction: Direction,
}

impl Way {
    pub(crate) const ALL: [Way; 6] =
        [Way::BareServer, Way::BareClient, Way::Handler, Way::Events, Way::Client, Way::Socket];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::BareServer => "bare-server",
            Way::BareClient => "bare-client",
            Way::Handler => "handler",
            Way::Events => "events",
            Way::Client => "client",
            Way::Socket => "socket",
        }
    }

    pub(crate) fn is_server(self) -> bool {
        matches!(self, Way::BareServer | Way::Handler | Way::Events)
    }

    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Way::BareServer | Way::BareClient)
    }

    /// The bare loop at the same end.
    pub(crate) fn bare(self) -> Way {
        if self.is_server() { Way::BareServer } else { Way::BareClient }
    }
}

impl Transport {
    pub(crate) const ALL: [Transport; 3] = [Transport::Plain, Transport::Tls, Transport::Deflate];

    pub(crate) fn named(name: &str) -> Result<Transport, String> {
        let found = Transport::ALL.into_iter().find(|transport| transport.name() == name);
        found.ok_or_else(|| format!("there is no transport {name}"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Plain => "plain",
            Transport::Tls => "tls",
            Transport::Deflate => "deflate",
        }
    }
}

impl Direction {
    pub(crate) const ALL: [Direction; 3] = [Direction::In, Direction::Out, Direction::Echo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Echo => "echo",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Direction, String> {
        let found = Direction::ALL.into_iter().find(|direction| direction.name() == name);
        found.ok_or_else(|| format!("there is no direction {name}"))
    }
}

impl Case {
    /// All cases, the bare loop before those that are compared with it.
    pub(crate) fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for transport in Transport::ALL {
            for direction in Direction::ALL {
                for way in Way::ALL {
                    // A reader of a `WebSocket` borrows it, so that nothing can be sent meanwhile.
                    if way != Way::Socket || direction != Direction::Echo {
                        cases.push(Case { way, transport, direction });
                    }
                }
            }
        }
        cases
    }

    /// The cases whose names contain one of these.
    pub(crate) fn named(parts: &str) -> Result<Vec<Case>, String> {
        let mut wanted = Vec::new();
        for part in parts.split(',') {
            let found: Vec<Case> = Case::all().into_iter().filter(|case| case.to_string().contains(part)).collect();
            if found.is_empty() {
                return Err(format!("no case has {part} in its name"));
            }
            wanted.extend(found);
        }
        // The bare loops are what the others are compared with.
        let bare: Vec<Case> = wanted.iter().map(|case| Case { way: case.way.bare(), ..*case }).collect();
        let is_wanted = |case: &Case| wanted.contains(case) || bare.contains(case);
        Ok(Case::all().into_iter().filter(is_wanted).collect())
    }

    /// The bare loop that this is compared with.
    pub(crate) fn reference(self) -> Case {
        Case { way: self.way.bare(), ..self }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.way.name(), self.transport.name(), self.direction.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Case;

    #[test]
    fn cases_are_found_with_their_bare_loop() {
        let names = |parts: &str| {
            let cases = Case::named(parts).unwrap();
            cases.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("client-tls-in"), ["bare-client-tls-in", "client-tls-in"]);
        assert_eq!(names("handler-plain-echo"), ["bare-server-plain-echo", "handler-plain-echo"]);
        assert!(Case::named("socket-plain-echo").is_err());
        assert_eq!(Case::all().len(), 51);
    }
}
