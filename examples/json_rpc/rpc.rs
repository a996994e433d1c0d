//! JSON-RPC 2.0, as <https://www.jsonrpc.org/specification> has it: what a request is, and what is answered.

use serde_json::{Map, Value, json};
use threadbare::MessageRef;

/// How many calls a batch may have. A batch is one message, and its answers are one as well.
const MAX_BATCH: usize = 100;

/// Why a call has no result: the error object of the specification (5.1).
#[derive(Debug)]
pub(crate) struct CallError {
    code: i32,
    message: &'static str,
    /// What the caller can do about it.
    data: Option<String>,
}

impl CallError {
    /// An error of the application, with one of its codes: -32000 to -32099, or any outside of -32768 to -32000.
    pub(crate) fn new(code: i32, message: &'static str, data: impl Into<String>) -> CallError {
        CallError { code, message, data: Some(data.into()) }
    }

    pub(crate) fn method_not_found() -> CallError {
        CallError { code: -32601, message: "Method not found", data: None }
    }

    pub(crate) fn invalid_params(why: impl Into<String>) -> CallError {
        CallError::new(-32602, "Invalid params", why)
    }

    fn parse_error(why: String) -> CallError {
        CallError::new(-32700, "Parse error", why)
    }

    fn invalid_request(why: impl Into<String>) -> CallError {
        CallError::new(-32600, "Invalid Request", why)
    }

    fn answer(self, id: &Value) -> Value {
        let CallError { code, message, data } = self;
        let mut error = json!({ "code": code, "message": message });
        if let Some(data) = data {
            error["data"] = json!(data);
        }
        json!({ "jsonrpc": "2.0", "error": error, "id": id })
    }
}

/// The parameters of a call: by position, by name, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params<'a>(Option<&'a Value>);

impl<'a> Params<'a> {
    /// The parameters with these names, in this order.
    ///
    /// # Errors
    ///
    /// One is missing, or there are others.
    pub(crate) fn take<const N: usize>(self, names: [&str; N]) -> Result<[&'a Value; N], CallError> {
        let values: Option<Vec<&Value>> = match self.0 {
            Some(Value::Object(values)) if values.len() == N => names.iter().map(|name| values.get(*name)).collect(),
            Some(Value::Array(values)) => Some(values.iter().collect()),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        values.and_then(|values| values.try_into().ok()).ok_or_else(|| {
            let wanted = if N == 0 { "none".to_owned() } else { names.join(", ") };
            CallError::invalid_params(format!("the parameters are: {wanted}"))
        })
    }
}

/// A call without an answer.
pub(crate) fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Answers a message, which is a request or a batch of some. `call` is given the method and the parameters of each. There is
/// no answer if all of them are notifications.
pub(crate) fn answer(
    message: MessageRef<'_>,
    mut call: impl FnMut(&str, Params<'_>) -> Result<Value, CallError>,
) -> Option<Value> {
    let requests = match message.json() {
        Ok(Value::Array(requests)) => requests,
        Ok(request) => return answer_request(&request, &mut call),
        Err(error) => return Some(CallError::parse_error(error.to_string()).answer(&Value::Null)),
    };
    // 6: "If the batch rpc call itself fails to be recognized [..] as an Array with at least one value, the response from
    // the Server MUST be a single Response object."
    if requests.is_empty() {
        return Some(CallError::invalid_request("the batch is empty").answer(&Value::Null));
    }
    if requests.len() > MAX_BATCH {
        let why = format!("a batch has at most {MAX_BATCH} requests");
        return Some(CallError::invalid_request(why).answer(&Value::Null));
    }
    let answers: Vec<Value> = requests.iter().filter_map(|request| answer_request(request, &mut call)).collect();
    (!answers.is_empty()).then_some(Value::Array(answers))
}

fn answer_request(
    request: &Value,
    call: &mut impl FnMut(&str, Params<'_>) -> Result<Value, CallError>,
) -> Option<Value> {
    let (request, method, params) = match check(request) {
        Ok(parts) => parts,
        Err(why) => {
            // 5: "If there was an error in detecting the id in the Request object [..], it MUST be Null."
            let id = request.get("id").filter(|id| is_id(id)).unwrap_or(&Value::Null);
            return Some(CallError::invalid_request(why).answer(id));
        }
    };
    let outcome = call(method, params);
    // 4.1: a request without an id is a notification, and is not answered, whatever comes of it.
    let id = request.get("id")?;
    Some(match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        Err(error) => error.answer(id),
    })
}

/// The parts of a valid request (4), or what is wrong with it.
fn check(request: &Value) -> Result<(&Map<String, Value>, &str, Params<'_>), &'static str> {
    let request = request.as_object().ok_or("a request is an object")?;
    if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err("jsonrpc is \"2.0\"");
    }
    if request.get("id").is_some_and(|id| !is_id(id)) {
        return Err("an id is a text, a number or null");
    }
    let params = request.get("params");
    if params.is_some_and(|params| !params.is_array() && !params.is_object()) {
        return Err("params are an array or an object");
    }
    let method = request.get("method").and_then(Value::as_str).ok_or("a method is a text")?;
    Ok((request, method, Params(params)))
}

fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_number() || id.is_null()
}
