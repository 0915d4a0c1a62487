//! The database: customers, their orders, and the items of each. Every query is a span with what the database was asked.

use serde::Serialize;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tracing::field::Empty;
use tracing::{Span, instrument};

pub(crate) const ORDERS: u32 = 50;
const ITEMS_PER_ORDER: u32 = 5;
const CUSTOMERS: u32 = 10;

const CREATE: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers);
    CREATE TABLE items (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES orders, name TEXT NOT NULL, cents INTEGER NOT NULL);
    CREATE INDEX items_of_order ON items (parent);";

const SELECT_ALL: &str = "SELECT orders.id, customers.name, items.name, items.cents FROM orders \
    JOIN customers ON customers.id = orders.customer JOIN items ON items.parent = orders.id ORDER BY orders.id, items.id";
const SELECT_ORDERS: &str = "SELECT orders.id, customers.name FROM orders \
    JOIN customers ON customers.id = orders.customer ORDER BY orders.id";
const SELECT_ITEMS: &str = "SELECT name, cents FROM items WHERE parent = ? ORDER BY id";

#[derive(Serialize)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) customer: String,
    pub(crate) items: Vec<Item>,
}

#[derive(Serialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) cents: i64,
}

#[derive(Clone)]
pub(crate) struct Shop(SqlitePool);

impl Shop {
    /// Makes a shop in memory with some orders.
    #[instrument(name = "open shop")]
    pub(crate) async fn open() -> Result<Shop, sqlx::Error> {
        // Every connection to `:memory:` has a database of its own, so there is one, and it stays.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect("sqlite::memory:")
            .await?;
        sqlx::raw_sql(CREATE).execute(&pool).await?;
        let mut transaction = pool.begin().await?;
        for id in 1..=CUSTOMERS {
            sqlx::query("INSERT INTO customers VALUES (?, ?)")
                .bind(id)
                .bind(format!("customer {id}"))
                .execute(&mut *transaction)
                .await?;
        }
        for id in 1..=ORDERS {
            sqlx::query("INSERT INTO orders VALUES (?, ?)")
                .bind(id)
                .bind(id % CUSTOMERS + 1)
                .execute(&mut *transaction)
                .await?;
            for number in 1..=ITEMS_PER_ORDER {
                sqlx::query("INSERT INTO items (parent, name, cents) VALUES (?, ?, ?)")
                    .bind(id)
                    .bind(format!("item {number}"))
                    .bind(id * 100 + number)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(Shop(pool))
    }

    /// Reads all orders with their items in one query.
    #[instrument(skip_all, err, fields(
        otel.name = "SELECT orders items",
        otel.kind = "client",
        db.system.name = "sqlite",
        db.operation.name = "SELECT",
        db.query.text = SELECT_ALL,
        db.response.returned_rows = Empty,
    ))]
    pub(crate) async fn orders_with_items(&self) -> Result<Vec<Order>, sqlx::Error> {
        let rows: Vec<(i64, String, String, i64)> =
            sqlx::query_as(SELECT_ALL).fetch_all(&self.0).await?;
        Span::current().record("db.response.returned_rows", rows.len());
        let mut orders: Vec<Order> = Vec::new();
        for (id, customer, name, cents) in rows {
            let item = Item { name, cents };
            match orders.last_mut().filter(|order| order.id == id) {
                Some(order) => order.items.push(item),
                None => orders.push(Order {
                    id,
                    customer,
                    items: vec![item],
                }),
            }
        }
        Ok(orders)
    }

    /// Reads all orders without their items.
    #[instrument(skip_all, err, fields(
        otel.name = "SELECT orders",
        otel.kind = "client",
        db.system.name = "sqlite",
        db.operation.name = "SELECT",
        db.collection.name = "orders",
        db.query.text = SELECT_ORDERS,
        db.response.returned_rows = Empty,
    ))]
    pub(crate) async fn orders(&self) -> Result<Vec<Order>, sqlx::Error> {
        let rows: Vec<(i64, String)> = sqlx::query_as(SELECT_ORDERS).fetch_all(&self.0).await?;
        Span::current().record("db.response.returned_rows", rows.len());
        let order = |(id, customer)| Order {
            id,
            customer,
            items: Vec::new(),
        };
        Ok(rows.into_iter().map(order).collect())
    }

    /// Reads the items of one order.
    #[instrument(skip_all, err, fields(
        otel.name = "SELECT items",
        otel.kind = "client",
        db.system.name = "sqlite",
        db.operation.name = "SELECT",
        db.collection.name = "items",
        db.query.text = SELECT_ITEMS,
        db.response.returned_rows = Empty,
        order,
    ))]
    pub(crate) async fn items_of(&self, order: i64) -> Result<Vec<Item>, sqlx::Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(SELECT_ITEMS)
            .bind(order)
            .fetch_all(&self.0)
            .await?;
        Span::current().record("db.response.returned_rows", rows.len());
        let item = |(name, cents)| Item { name, cents };
        Ok(rows.into_iter().map(item).collect())
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}
