//! The three forms in which a function is exported.

/// Functions that only count their calls.
macro_rules! exported {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty $body:block)*) => {$(
        #[allow(unused_variables, reason = "some are there for the parameter struct only")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $ret {
            static CALLS: $crate::counters::Counter = $crate::counters::Counter::new(stringify!($name));
            CALLS.hit();
            $body
        }
    )*};
}

/// Driver functions without a callback id. They fail when the device is lost.
macro_rules! driver {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        exported! {$(
            fn $name($($arg: $type),*) -> u32 {
                $crate::errors::code((|| {
                    $crate::errors::device_present()?;
                    $body
                })())
            }
        )*}
    };
}

/// Driver functions that CUPTI has a callback id for. Parameters have the order of the vendor's parameter struct.
macro_rules! traced {
    ($($cbid:literal => fn $name:ident($($arg:ident: $type:ty),* $(,)?)
        $(symbol($symbol:expr))? , |$call:ident| $body:block)*) => {
        exported! {$(
            fn $name($($arg: $type),*) -> u32 {
                #[repr(C)]
                struct Params {
                    $($arg: $type,)*
                }
                let params = Params { $($arg,)* };
                #[allow(unused_mut, unused_assignments)]
                let mut symbol: *const std::ffi::c_char = std::ptr::null();
                $(symbol = $symbol;)?
                let call = $crate::callbacks::Api {
                    domain: $crate::callbacks::DRIVER,
                    cbid: $cbid,
                    name: concat!(stringify!($name), "\0").as_ptr().cast(),
                    symbol,
                    params: (&raw const params).cast(),
                };
                $crate::callbacks::around(call, |$call| {
                    $crate::errors::code((|| {
                        $crate::errors::device_present()?;
                        $body
                    })())
                })
            }
        )*}
    };
}
