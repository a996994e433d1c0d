//! A web page in three files, for the examples that have one.

use threadbare::{Request, Response};

/// The page loads nothing from other hosts, and no other page can put it into a frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers plain HTTP: the page at `/` with its style and script, 404 elsewhere.
pub fn serve(html: &str, css: &str, js: &str) -> impl Fn(&Request) -> Response + use<> {
    let html = file("text/html", html);
    let css = file("text/css", css);
    let js = file("text/javascript", js);
    move |request: &Request| match (request.method(), request.path()) {
        ("GET" | "HEAD", "/") => html.clone(),
        ("GET" | "HEAD", "/page.css") => css.clone(),
        ("GET" | "HEAD", "/page.js") => js.clone(),
        (_, "/" | "/page.css" | "/page.js") => Response::new(405).header("Allow", "GET, HEAD"),
        _ => Response::new(404).text("not found\n"),
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
