-- The on-premises data that the cloud application wants. Runs once, when the database is new.
create table orders (
    id        integer primary key,
    customer  text          not null,
    article   text          not null,
    total     numeric(8, 2) not null
);

insert into orders (id, customer, article, total) values
    (1, 'Contoso',    'pallet of bolts',   129.90),
    (2, 'Fabrikam',   'conveyor belt',    4310.00),
    (3, 'Northwind',  'forklift battery',  880.50),
    (4, 'Tailspin',   'label printer',     349.00),
    (5, 'Wingtip',    'shelving, 12 m',   1999.95);
