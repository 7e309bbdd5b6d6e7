create table orders (id serial, article text);
insert into orders (article) values ('pallet of bolts'), ('conveyor belt');
