//! Every sentence we say about a mistake, and its cure.

use std::fmt;

use syn::Ident;
use syn::ext::IdentExt;

/// What is wrong, and what to write instead.
pub(crate) struct Mistake {
    sentence: String,
    help: String,
}

impl Mistake {
    fn new(sentence: impl Into<String>) -> Mistake {
        Mistake { sentence: sentence.into(), help: String::new() }
    }

    fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sentence, help } = self;
        // The compiler indents what follows a newline; it comes to stand under the sentence.
        write!(f, "{sentence}\nhelp: {help}")
    }
}

// What the attributes stand on.

pub(crate) fn worker_on_something_else() -> Mistake {
    Mistake::new("`#[worker]` must stand on a trait, or on the impl of a worker trait for a type")
        .help("declare the functions in a trait, and put `#[worker]` on it and on its impl")
}

pub(crate) fn inherent_impl() -> Mistake {
    Mistake::new("`#[worker]` must stand on the impl of a worker trait, not on a type's own impl")
        .help("declare the functions in a trait with `#[worker]`, and write `impl Trait for Type`")
}

pub(crate) fn negative_impl() -> Mistake {
    Mistake::new("`#[worker]` must stand on an impl that has functions")
        .help("remove the `!`, or the attribute")
}

pub(crate) fn attribute_twice(attribute: &str) -> Mistake {
    Mistake::new(format!("`#[{attribute}]` must stand here once"))
        .help("put all arguments into one attribute")
}

// What stands in the attributes' brackets.

pub(crate) fn argument_unknown(name: &str, on: &str, possible: &[&str]) -> Mistake {
    let possible: Vec<_> = possible.iter().map(|it| format!("`{it}`")).collect();
    Mistake::new(format!("`{name}` must be a known argument of {on}"))
        .help(format!("known here: {}", possible.join(", ")))
}

pub(crate) fn argument_twice(name: &str) -> Mistake {
    Mistake::new(format!("`{name}` must be given once")).help("remove one of the two")
}

pub(crate) fn argument_malformed(name: &str, form: &str) -> Mistake {
    let example = match name {
        "crate" => "crate = path::to::rpc_parallel",
        "client" => "client = path::to::Client",
        "flavor" => "flavor = \"multi_thread\"",
        "settings" => "settings = Settings::default()",
        "threads" => "threads = 4",
        "worker_logs" => "worker_logs = true",
        "worker" => "worker(flavor = \"multi_thread\")",
        _ => "id = \"..\"",
    };
    Mistake::new(format!("`{name}` must be {form}")).help(format!("write `{example}`"))
}

pub(crate) fn flag_with_value(name: &str) -> Mistake {
    Mistake::new(format!("`{name}` must stand alone")).help(format!("write `#[worker({name})]`"))
}

pub(crate) fn no_cancel_on_one_way() -> Mistake {
    Mistake::new("`no_cancel` must not stand beside `one_way`")
        .help("a one-way function is never cancelled; remove `no_cancel`")
}

pub(crate) fn id_empty() -> Mistake {
    Mistake::new("`id` must not be empty").help("give the name that the id shall be made from")
}

pub(crate) fn id_on_a_trait() -> Mistake {
    Mistake::new("`id` must stand on a function or on an impl, since a trait has no id")
        .help("move it to the function whose id it fixes, or to the impl for the worker type's")
}

pub(crate) fn flavor_unknown(flavor: &str) -> Mistake {
    Mistake::new(format!("flavor `{flavor}` must be `current_thread` or `multi_thread`"))
        .help("`current_thread` is the default: best for many small processes")
}

pub(crate) fn threads_without_multi_thread() -> Mistake {
    Mistake::new("`threads` must come with `flavor = \"multi_thread\"`")
        .help("add the flavor, or remove `threads`")
}

// Worker traits.

pub(crate) fn trait_generic(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must not be generic"))
        .help("a worker's functions are known by fixed types; write one trait for each")
}

pub(crate) fn trait_where_clause(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must not have a where clause"))
        .help("write what it asks of implementing types as supertraits, after a colon")
}

pub(crate) fn trait_unsafe(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must be safe"))
        .help("callers are in other processes and cannot promise anything; remove `unsafe`")
}

pub(crate) fn trait_auto(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must not be an auto trait")).help("remove `auto`")
}

pub(crate) fn associated_type(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must not have associated types"))
        .help("its clients do not know the implementing type; name one type in the functions")
}

pub(crate) fn associated_const(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must not have associated constants"))
        .help("write a function: its callers are in other processes")
}

pub(crate) fn item_in_trait(worker: &Ident) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must consist of functions"))
        .help("write the functions out; macros in it are not expanded yet when we read it")
}

// Worker functions.

pub(crate) fn receiver_not_shared(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must take `&self`"))
        .help("calls run concurrently; put changing state behind a lock")
}

pub(crate) fn receiver_owned(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must take `&self`"))
        .help("the state serves many calls, so none of them can have it")
}

pub(crate) fn receiver_missing(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must take `&self`"))
        .help("write `&self` first; a function without a worker is an ordinary function")
}

pub(crate) fn function_const(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must not be `const`"))
        .help("it runs in another process; remove `const`")
}

pub(crate) fn function_unsafe(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must be safe"))
        .help("callers are in other processes and cannot promise anything; remove `unsafe`")
}

pub(crate) fn function_extern(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must be an ordinary function"))
        .help("it is called by our own protocol; remove `extern`")
}

pub(crate) fn function_variadic(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must have a fixed number of arguments"))
        .help("take a `Vec` or a slice instead of `...`")
}

pub(crate) fn function_generic(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must not be generic"))
        .help("what travels has one type; write it, or an enum of the possible ones")
}

pub(crate) fn function_lifetime(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must not have lifetime parameters"))
        .help("write `&` without a lifetime; the caller's value is copied to the worker")
}

pub(crate) fn function_where_clause(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must not have a where clause"))
        .help("it is not generic, so there is nothing to ask; remove the clause")
}

pub(crate) fn default_body(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must not have a body in the trait"))
        .help("end it with `;` and write the body in the impl")
}

pub(crate) fn name_taken(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must have a name that clients leave free"))
        .help(format!("every client has a `{}` of its own; choose another name", function.unraw()))
}

pub(crate) fn constants_clash(function: &Ident, other: &Ident, constant: &Ident) -> Mistake {
    Mistake::new(format!("worker functions `{other}` and `{function}` must differ beyond case"))
        .help(format!("both would be the client's constant `{constant}`; rename one"))
}

pub(crate) fn id_twice(function: &Ident, other: &Ident, id: &str) -> Mistake {
    Mistake::new(format!("worker functions `{other}` and `{function}` must have different ids"))
        .help(format!("both say `id = \"{id}\"`; change one"))
}

// Their arguments.

pub(crate) fn argument_pattern(function: &Ident) -> Mistake {
    Mistake::new(format!("arguments of worker function `{function}` must be plain names"))
        .help("name it here, and take it apart in the impl")
}

pub(crate) fn argument_conditional(function: &Ident) -> Mistake {
    Mistake::new(format!("arguments of worker function `{function}` must always be there"))
        .help("put the `#[cfg]` on the function, and write it twice")
}

pub(crate) fn argument_mutable(argument: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must not be borrowed as `&mut`"))
        .help("the worker changes its own copy; take it by value and return what is new")
}

pub(crate) fn argument_borrows(argument: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must not borrow inside its type"))
        .help("only the whole argument may be borrowed; inside write owned types like `String`")
}

pub(crate) fn argument_borrows_pipe(argument: &Ident, pipe: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must not borrow a `{pipe}`"))
        .help("it moves to the worker; take it by value")
}

pub(crate) fn argument_lifetime(argument: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must be borrowed without a lifetime"))
        .help("write `&` alone; the worker has it for the time of the call")
}

pub(crate) fn argument_impl_trait(argument: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must not be `impl Trait`"))
        .help("what travels has one type; write it, or an enum of the possible ones")
}

pub(crate) fn argument_self_type(argument: &Ident) -> Mistake {
    Mistake::new(format!("argument `{argument}` must not name `Self`"))
        .help("callers do not know the implementing type; write a type's own name")
}

pub(crate) fn argument_unsized(argument: &Ident, owned: &str) -> Mistake {
    Mistake::new(format!("argument `{argument}` must be borrowed or owned"))
        .help(format!("write `&` before the type, or `{owned}`"))
}

pub(crate) fn too_many_arguments(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must have at most 16 arguments"))
        .help("put them into a struct")
}

// Contexts.

pub(crate) fn context_twice(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must have one context"))
        .help("remove one; a call has one connection")
}

pub(crate) fn contexts_differ(worker: &Ident, first: &str, other: &str) -> Mistake {
    Mistake::new(format!("worker trait `{worker}` must have one context, written alike everywhere"))
        .help(format!("a connection has one state; here are `{first}` and `{other}`"))
}

pub(crate) fn context_mutable(function: &Ident) -> Mistake {
    Mistake::new(format!("context of worker function `{function}` must be borrowed as `&`"))
        .help("calls of one connection share it; put changing state behind a lock")
}

pub(crate) fn context_foreign(function: &Ident) -> Mistake {
    Mistake::new(format!("context of worker function `{function}` must be rpc-parallel's"))
        .help("`Context<State>` has a type and no lifetime; import `rpc_parallel::Context`")
}

// Their results.

pub(crate) fn result_is_no_result(function: &Ident) -> Mistake {
    Mistake::new(format!("worker function `{function}` must return a `Result`"))
        .help("`#[worker(result)]` is for aliases of `Result` with other names; remove it")
}

pub(crate) fn result_borrows(function: &Ident) -> Mistake {
    Mistake::new(format!("result of worker function `{function}` must be owned"))
        .help("it leaves the worker's process; write an owned type like `String` or `Vec`")
}

pub(crate) fn result_impl_trait(function: &Ident) -> Mistake {
    Mistake::new(format!("result of worker function `{function}` must not be `impl Trait`"))
        .help("what travels has one type; write it")
}

pub(crate) fn result_self_type(function: &Ident) -> Mistake {
    Mistake::new(format!("result of worker function `{function}` must not name `Self`"))
        .help("callers do not know the implementing type; write a type's own name")
}

pub(crate) fn result_of_one_way(function: &Ident) -> Mistake {
    Mistake::new(format!("one-way worker function `{function}` must not have a result"))
        .help("its callers wait for no answer; remove the result, or `one_way`")
}

pub(crate) fn result_holds_writer(function: &Ident) -> Mistake {
    Mistake::new(format!("result of worker function `{function}` must not hold a `PipeWriter`"))
        .help("return a `Pipe<..>` and keep the writer; `Pipe::pair()` makes both")
}

// Impls of worker traits.

pub(crate) fn impl_generic() -> Mistake {
    Mistake::new("the impl of a worker trait must be for one type, without generics")
        .help("what is started in another process is one type; write one impl for each")
}

pub(crate) fn attribute_on_impl_function() -> Mistake {
    Mistake::new("`#[worker(..)]` on a function must stand in the trait, not in its impl")
        .help("move it to the same function of the trait")
}

// `#[entry]` and `#[test]`.

pub(crate) fn entry_not_on_main() -> Mistake {
    Mistake::new("`#[entry]` must stand on the function `main`")
        .help("it decides how the whole program starts; a worker's functions stand in a trait")
}

pub(crate) fn test_not_on_function() -> Mistake {
    Mistake::new("`#[rpc_parallel::test]` must stand on a function")
        .help("write `async fn` and what shall hold")
}

pub(crate) fn main_with_more_than_arguments() -> Mistake {
    Mistake::new("`main` must take nothing, or one list of the program's arguments")
        .help("write `fn main(args: Vec<String>)` and take the list apart in the body")
}

pub(crate) fn main_generic() -> Mistake {
    Mistake::new("`main` must not be generic").help("write the types themselves")
}

pub(crate) fn test_with_arguments(test: &Ident) -> Mistake {
    Mistake::new(format!("test `{test}` must not have parameters"))
        .help("make in its body what it needs")
}

pub(crate) fn test_generic(test: &Ident) -> Mistake {
    Mistake::new(format!("test `{test}` must not be generic")).help("write the types themselves")
}

pub(crate) fn start_with_self(function: &Ident) -> Mistake {
    Mistake::new(format!("`{function}` must be a free function"))
        .help("remove `self`, and the impl around it")
}

pub(crate) fn start_qualified(function: &Ident, word: &str) -> Mistake {
    Mistake::new(format!("`{function}` must be a plain `fn` or `async fn`"))
        .help(format!("remove `{word}`"))
}

pub(crate) fn runtime_of_sync_function(function: &Ident, argument: &Ident) -> Mistake {
    Mistake::new(format!("`{argument}` must stand on an async function")).help(format!(
        "make `{function}` async, or write `worker({argument} = ..)` for the workers' runtimes"
    ))
}

pub(crate) fn entry_with_other_runtime(attribute: &str) -> Mistake {
    Mistake::new(format!("`#[entry]` must stand on `main` without `#[{attribute}]`")).help(
        "`#[entry]` starts the runtime itself: remove the other; `flavor` and `threads` set it",
    )
}

pub(crate) fn test_with_other_test(attribute: &str) -> Mistake {
    Mistake::new(format!("`#[rpc_parallel::test]` must stand without `#[{attribute}]`"))
        .help("it makes a test by itself; remove the other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_stands_under_what_is_wrong() {
        let mistake = receiver_not_shared(&syn::parse_quote!(add));

        let text = "worker function `add` must take `&self`\n\
                    help: calls run concurrently; put changing state behind a lock";
        assert_eq!(mistake.to_string(), text);
    }
}
