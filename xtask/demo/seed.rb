# Makes the demo's database: 500 customers, 20,000 orders, the same ones each time.
require "sqlite3"
db = SQLite3::Database.new(ARGV.fetch(0))
random = Random.new(42)
db.execute_batch <<~SQL
  PRAGMA journal_mode = DELETE;
  CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, cents INTEGER NOT NULL, placed INTEGER NOT NULL, note TEXT NOT NULL);
SQL
db.transaction do
  1.upto(500) { |id| db.execute("INSERT INTO customers VALUES (?, ?)", [id, "Customer #{id}"]) }
  1.upto(20_000) do |id|
    db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", [id, random.rand(1..500), random.rand(100..99_999), random.rand(1_000_000), "note #{random.rand(1_000_000)}"])
  end
  db.execute("CREATE INDEX by_customer ON orders (customer_id, placed)")
end
