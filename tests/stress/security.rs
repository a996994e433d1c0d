//! How connections are secured: not at all, or by TLS where the package of its tests builds this.

use threadbare::{ClientBuilder, ServerBuilder};

#[cfg(not(threadbare_tls_tests))]
mod settings {
    use super::{ClientBuilder, ServerBuilder};

    pub(crate) const SCHEME: &str = "ws";

    pub(crate) fn server(builder: ServerBuilder) -> ServerBuilder {
        builder
    }

    pub(crate) fn client(builder: ClientBuilder) -> ClientBuilder {
        builder
    }
}

#[cfg(threadbare_tls_tests)]
mod settings {
    use std::sync::LazyLock;

    use threadbare::{ClientTls, Tls};

    use super::{ClientBuilder, ServerBuilder};

    pub(crate) const SCHEME: &str = "wss";

    static SETTINGS: LazyLock<(Tls, ClientTls)> = LazyLock::new(|| {
        let authority = threadbare_tls_tests::Authority::new();
        (authority.server(), authority.client())
    });

    pub(crate) fn server(builder: ServerBuilder) -> ServerBuilder {
        builder.tls(SETTINGS.0.clone())
    }

    pub(crate) fn client(builder: ClientBuilder) -> ClientBuilder {
        builder.tls(SETTINGS.1.clone())
    }
}

pub(crate) use settings::{SCHEME, client, server};
