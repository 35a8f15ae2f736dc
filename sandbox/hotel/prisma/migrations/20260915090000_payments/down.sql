DROP TABLE revoked_tokens;
DROP TABLE magic_links;
DROP TABLE documents;
DROP TABLE payments;
