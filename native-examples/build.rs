//! Compiles the C code of `poisoned_inputs`.

fn main() {
    let source = "src/bin/poisoned_inputs/order_price.c";
    println!("cargo::rerun-if-changed={source}");
    cc::Build::new().file(source).warnings(true).compile("order_price");
}
