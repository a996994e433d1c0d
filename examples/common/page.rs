//! Web pages, for the examples that have some.

use std::collections::HashMap;

use threadbare::{Request, Response};

/// The page loads nothing from other hosts, and no other page can put it into a frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The module with which a page connects again.
pub const CONNECTION: (&str, &str, &str) = ("/connection.js", "text/javascript", include_str!("connection.js"));

/// The module that draws values over time.
pub const PLOTS: (&str, &str, &str) = ("/plots.js", "text/javascript", include_str!("plots.js"));

/// Answers plain HTTP: the page at `/` with its style and script, and [`CONNECTION`]; 404 elsewhere.
pub fn serve(html: &str, css: &str, js: &str) -> impl Fn(&Request) -> Response + use<> {
    serve_files(&[
        ("/", "text/html", html),
        ("/page.css", "text/css", css),
        ("/page.js", "text/javascript", js),
        CONNECTION,
    ])
}

/// As [`serve`], with [`PLOTS`], and [`plots_style`] as the style.
pub fn serve_plots(html: &str, css: &str, js: &str) -> impl Fn(&Request) -> Response + use<> {
    serve_files(&[
        ("/", "text/html", html),
        ("/page.css", "text/css", &plots_style(css)),
        ("/page.js", "text/javascript", js),
        CONNECTION,
        PLOTS,
    ])
}

/// The style of a page with plots, after what all of these have in common.
pub fn plots_style(css: &str) -> String {
    [include_str!("style.css"), include_str!("plots.css"), css].concat()
}

/// As [`serve`], with any number of files: the path, the media type and the content of each.
pub fn serve_files(files: &[(&'static str, &str, &str)]) -> impl Fn(&Request) -> Response + use<> {
    let files: HashMap<&'static str, Response> =
        files.iter().map(|(path, content_type, body)| (*path, file(content_type, body))).collect();
    move |request: &Request| match (request.method(), files.get(request.path())) {
        ("GET" | "HEAD", Some(file)) => file.clone(),
        (_, Some(_)) => Response::new(405).header("Allow", "GET, HEAD"),
        (_, None) => Response::new(404).text("not found\n"),
    }
}

/// One file, with the headers that keep a browser from treating it as anything else.
fn file(content_type: &str, body: &str) -> Response {
    Response::new(200)
        .header("Content-Type", &format!("{content_type}; charset=utf-8"))
        .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .header("Cache-Control", "no-cache")
        .body(body)
}
