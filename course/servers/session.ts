/** Requests that begin with it are the course's own: no gate, schedule or count sees them. */
export const OURS = '/* course */';

/**
 * What the labs rely on, whatever a my.cnf says: the first request of each connection. No privilege is needed for it.
 * A comment with a version is code for the servers from that version on: MySQL reads `/*!`, MariaDB `/*M!`.
 */
export const SESSION = `${OURS} SET SESSION
  sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
  autocommit = 1, completion_type = 0, foreign_key_checks = 1, unique_checks = 1,
  time_zone = '+00:00', default_storage_engine = InnoDB, sql_safe_updates = 0, sql_select_limit = 18446744073709551615,
  auto_increment_increment = 1, auto_increment_offset = 1, innodb_lock_wait_timeout = 50, wait_timeout = 28800
  /*!80000 , transaction_isolation = 'REPEATABLE-READ', transaction_read_only = 0, max_execution_time = 0 */
  /*M!100600 , tx_isolation = 'REPEATABLE-READ', tx_read_only = 0, max_statement_time = 0, query_cache_type = OFF */
  /*M!110602 , innodb_snapshot_isolation = OFF */`.replace(/\s+/g, ' ');
