/**
 * The shop and its small social network. Plain SQL for MySQL 8.4 and MariaDB 10.11 alike. Foreign keys are left out:
 * a lab asks for single tables, and deletes rows that others mention.
 */
export const SCHEMA = {
  /** `version` rises by one with each change of the row: it orders two writers, which a wall clock cannot. */
  users: {
    create: `CREATE TABLE users (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, email VARCHAR(190) NOT NULL UNIQUE,
      name VARCHAR(100) NOT NULL, locale CHAR(5) NOT NULL, created_at DATETIME(3) NOT NULL,
      version BIGINT UNSIGNED NOT NULL DEFAULT 1)`,
    columns: ['id', 'email', 'name', 'locale', 'created_at'],
  },
  categories: {
    create: `CREATE TABLE categories (
      id INT AUTO_INCREMENT PRIMARY KEY, parent_id INT NULL, name VARCHAR(60) NOT NULL,
      slug VARCHAR(60) NOT NULL UNIQUE, KEY by_parent (parent_id))`,
    columns: ['id', 'parent_id', 'name', 'slug'],
  },
  brands: {
    create: 'CREATE TABLE brands (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL)',
    columns: ['id', 'name'],
  },
  /** `stock` is the sum over the warehouses of `inventory`. It may go below zero: a lab can see that too much was sold. */
  products: {
    create: `CREATE TABLE products (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(200) NOT NULL, price DECIMAL(10,2) NOT NULL,
      stock INT NOT NULL, category_id INT NOT NULL, updated_at DATETIME(3) NOT NULL,
      brand_id INT NULL, description VARCHAR(2000) NOT NULL DEFAULT '',
      view_count BIGINT UNSIGNED NOT NULL DEFAULT 0, version BIGINT UNSIGNED NOT NULL DEFAULT 1,
      KEY by_category (category_id))`,
    columns: ['id', 'name', 'price', 'stock', 'category_id', 'updated_at', 'brand_id', 'description'],
  },
  product_images: {
    create: `CREATE TABLE product_images (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, product_id BIGINT UNSIGNED NOT NULL,
      position INT NOT NULL, url VARCHAR(200) NOT NULL, KEY by_product (product_id, position))`,
    columns: ['id', 'product_id', 'position', 'url'],
  },
  reviews: {
    create: `CREATE TABLE reviews (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, product_id BIGINT UNSIGNED NOT NULL,
      user_id BIGINT UNSIGNED NOT NULL, rating TINYINT UNSIGNED NOT NULL, body VARCHAR(1000) NOT NULL,
      created_at DATETIME(3) NOT NULL, KEY by_product (product_id, created_at))`,
    columns: ['id', 'product_id', 'user_id', 'rating', 'body', 'created_at'],
  },
  inventory: {
    create: `CREATE TABLE inventory (
      product_id BIGINT UNSIGNED NOT NULL, warehouse CHAR(3) NOT NULL, on_hand INT NOT NULL,
      updated_at DATETIME(3) NOT NULL, PRIMARY KEY (product_id, warehouse))`,
    columns: ['product_id', 'warehouse', 'on_hand', 'updated_at'],
  },
  orders: {
    create: `CREATE TABLE orders (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL,
      product_id BIGINT UNSIGNED NOT NULL, quantity INT NOT NULL, amount DECIMAL(10,2) NOT NULL,
      status VARCHAR(10) NOT NULL DEFAULT 'placed', created_at DATETIME(3) NOT NULL,
      KEY by_user (user_id, created_at))`,
    columns: ['id', 'user_id', 'product_id', 'quantity', 'amount', 'status', 'created_at'],
  },
  posts: {
    create: `CREATE TABLE posts (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL,
      body VARCHAR(500) NOT NULL, created_at DATETIME(3) NOT NULL, KEY by_author (user_id, created_at))`,
    columns: ['id', 'user_id', 'body', 'created_at'],
  },
  follows: {
    create: `CREATE TABLE follows (
      follower_id BIGINT UNSIGNED NOT NULL, followed_id BIGINT UNSIGNED NOT NULL,
      created_at DATETIME(3) NOT NULL, PRIMARY KEY (follower_id, followed_id), KEY by_followed (followed_id))`,
    columns: ['follower_id', 'followed_id', 'created_at'],
  },
  likes: {
    create: `CREATE TABLE likes (
      post_id BIGINT UNSIGNED NOT NULL, user_id BIGINT UNSIGNED NOT NULL, created_at DATETIME(3) NOT NULL,
      PRIMARY KEY (post_id, user_id))`,
    columns: ['post_id', 'user_id', 'created_at'],
  },
  comments: {
    create: `CREATE TABLE comments (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, post_id BIGINT UNSIGNED NOT NULL,
      user_id BIGINT UNSIGNED NOT NULL, body VARCHAR(500) NOT NULL, created_at DATETIME(3) NOT NULL,
      KEY by_post (post_id, created_at))`,
    columns: ['id', 'post_id', 'user_id', 'body', 'created_at'],
  },
  /** `kind` is view, cart or purchase; only a purchase has an amount. No index but the key: an aggregate reads every row. */
  events: {
    create: `CREATE TABLE events (
      id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL,
      product_id BIGINT UNSIGNED NOT NULL, kind VARCHAR(10) NOT NULL, amount DECIMAL(10,2) NULL,
      created_at DATETIME(3) NOT NULL)`,
    columns: ['id', 'user_id', 'product_id', 'kind', 'amount', 'created_at'],
  },
} as const satisfies Record<string, { create: string; columns: readonly string[] }>;

/** Tables of the shop and of the social network that a lab can ask for. */
export type TableName = keyof typeof SCHEMA;

export type Row = readonly (string | number | null)[];

/** Up to the tuples: `INSERT INTO users (id, …) VALUES`. */
export const insertInto = (name: TableName): string =>
  `INSERT INTO ${name} (${SCHEMA[name].columns.join(', ')}) VALUES`;
